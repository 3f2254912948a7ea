"""Configuration on any store that can compare and put: a value is a record, and what it replaces is archived before.

::

    config/<group>/<key>/value              the present value, or the mark of its removal
    config-history/<group>/<key>/<serial>   values that were there before

A key is a bucket of its own: to follow it costs one watch, whatever else is in its group. A writer reads the present record,
archives it under its serial, and puts the new one on condition that the present one is still there. So every value that
ever was current is in the history, whoever crashes when; and archiving twice writes the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

import msgspec

from sofa_registry_adapters.engine.envelope import HEADER_BYTES, Envelope
from sofa_registry_adapters.engine.reactor import Closing
from sofa_registry_adapters.errors import Conflict, CorruptRecord, RegistryError, Unsupported
from sofa_registry_adapters.model.config import ABSENT, Absent, ConfigItem, ConfigKey
from sofa_registry_adapters.model.names import decode_segment, encode_segment
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.config import ConfigBackend, ConfigDraft
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Rejected
from sofa_registry_adapters.spi.store import (
    Bucket,
    ConditionalStore,
    ListableStore,
    Record,
    RecordKey,
    RecordStore,
    Stored,
    StoreSnapshot,
)

ROOT, HISTORY = "config", "config-history"
NAME = "value"
KEPT = 24
"""Values in the history beside the present one: twenty, and a few for writers that overtake each other."""
SWEPT = 4
"""Old values that a writer removes at most: as many writers in a row may have died before they did."""
ATTEMPTS = 50
"""Times that an unconditional write begins again because another was faster."""
PAUSE = 0.02
"""Seconds, at most, before it does."""
READ_AT_ONCE = 32


class _Present(msgspec.Struct, frozen=True):
    """What is in a key's place: its revision in the store, and what it says, or why it cannot be decoded."""

    revision: str | None = None
    envelope: Envelope | None = None
    problem: CorruptRecord | None = None

    @property
    def value(self) -> Envelope | None:
        """The present value; None also where it was removed."""
        return None if self.envelope is None or self.envelope.gone else self.envelope


class StoreConfig(ConfigBackend):
    """See the module. Raises `Unsupported` for a store that cannot compare and put."""

    def __init__(self, store: RecordStore, clock: Clock) -> None:
        if not isinstance(store, ConditionalStore) or not store.capabilities.compare_and_set:
            raise Unsupported("no configuration can be kept here: the store cannot write on condition")
        self._store = store
        self._conditional: ConditionalStore = store
        self._clock = clock
        self._capabilities = config_capabilities(store.capabilities)

    @property
    def capabilities(self) -> Capabilities:
        """The store's, with room for what is said about a value."""
        return self._capabilities

    async def open(self) -> None:
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    async def renew(self) -> None:
        await self._store.renew()

    async def get(self, key: ConfigKey) -> ConfigItem | Absent | None:
        present = await self._present(key)
        if present.problem is not None:
            raise present.problem
        return _found(key, present.envelope)

    async def publish(self, key: ConfigKey, draft: ConfigDraft, expected: str | Absent | None) -> str:
        for attempt in range(ATTEMPTS):
            present = await self._present(key)
            _check(key, present, expected)
            fresh = Envelope.of(draft, await self._last_serial(key, present) + 1, self._clock.wall_ms())
            if await self._replace(key, present, fresh):
                return fresh.revision
            await self._pause(attempt)
        raise _too_fast(key)

    async def remove(self, key: ConfigKey, expected: str | None, author: str = "") -> bool:
        for attempt in range(ATTEMPTS):
            present = await self._present(key)
            _check(key, present, expected)
            if present.value is None and present.problem is None:
                return False
            mark = Envelope.removal(await self._last_serial(key, present), author, self._clock.wall_ms())
            if await self._replace(key, present, mark):
                return True
            await self._pause(attempt)
        raise _too_fast(key)

    async def keys(self, group: str) -> Sequence[str]:
        if not isinstance(self._store, ListableStore):
            raise Unsupported("this config center cannot list its keys")
        found: list[ConfigKey] = []
        for segment in await self._store.buckets((ROOT, encode_segment(group))):
            # What somebody else put there is no key.
            with contextlib.suppress(ValueError, RegistryError):
                found.append(ConfigKey(decode_segment(segment), group))
        there: list[str] = []
        for start in range(0, len(found), READ_AT_ONCE):
            several = found[start : start + READ_AT_ONCE]
            values = await asyncio.gather(*(self._has_value(key) for key in several))
            there += [key.key for key, has in zip(several, values, strict=True) if has]
        return sorted(there)

    async def history(self, key: ConfigKey, limit: int) -> Sequence[ConfigItem]:
        # The present value first: what replaces it meanwhile archives it.
        present = (await self._present(key)).value
        values = {one.serial: one for one in await self._archived(key)}
        if present is not None:
            values[present.serial] = present
        return [values[serial].item(key) for serial in sorted(values, reverse=True)[:limit]]

    async def watch(self, key: ConfigKey) -> AsyncIterator[ConfigItem | Rejected | Absent | None]:
        place = record_key(key)
        async with Closing(self._store.watch(Bucket(place.bucket))) as messages:
            async for message in messages:
                if isinstance(message, StoreSnapshot):
                    yield _said(key, _value_of(message))
                    continue
                changed = next((one for one in message.changed if one.key == place), None)
                if changed is not None or place in message.removed:
                    yield _said(key, changed)

    async def _present(self, key: ConfigKey) -> _Present:
        stored = _value_of(await self._store.read(Bucket(_bucket(key))))
        if stored is None:
            return _Present()
        try:
            return _Present(stored.revision, Envelope.decode(stored.record.value))
        except CorruptRecord as error:
            return _Present(stored.revision, problem=error)

    async def _has_value(self, key: ConfigKey) -> bool:
        present = await self._present(key)
        return present.value is not None or present.problem is not None

    async def _pause(self, attempt: int) -> None:
        await self._clock.sleep(PAUSE * random.random() * min(attempt, 5))  # noqa: S311  jitter

    async def _replace(self, key: ConfigKey, present: _Present, fresh: Envelope) -> bool:
        """Put ``fresh`` in the place of what is present, which is archived; whether it still was present."""
        if present.value is not None:
            await self._archive(key, present.value)
        record = Record(*record_key(key), fresh.encode(), owned=False)
        try:
            await self._conditional.compare_and_put(record, present.revision)
        except Conflict:
            return False
        return True

    async def _archive(self, key: ConfigKey, value: Envelope) -> None:
        bucket = _bucket(key, HISTORY)
        record = Record(bucket, _archived_name(value.serial), value.encode(), owned=False)
        answer = (await self._store.put((record,)))[record.key]
        if isinstance(answer, RegistryError):
            raise answer
        oldest = value.serial - KEPT
        old = [RecordKey(bucket, _archived_name(serial)) for serial in range(oldest, oldest - SWEPT, -1) if serial > 0]
        if old:
            # Whoever writes next does it, if this is refused.
            await self._store.delete(old)

    async def _archived(self, key: ConfigKey) -> Sequence[Envelope]:
        """The values of the history, without those that cannot be decoded."""
        found = await self._store.read(Bucket(_bucket(key, HISTORY)))
        values: list[Envelope] = []
        for stored in found.records if found is not None else ():
            with contextlib.suppress(CorruptRecord):
                values.append(Envelope.decode(stored.record.value))
        return values

    async def _last_serial(self, key: ConfigKey, present: _Present) -> int:
        """The serial of the last value; 0 if there never was one. Where no record tells, the history does."""
        if present.envelope is not None:
            return present.envelope.serial
        return max((one.serial for one in await self._archived(key)), default=0)


def config_capabilities(store: Capabilities) -> Capabilities:
    """What a store can do for configuration: its largest value is smaller by what is said about it."""
    largest = (store.max_config_bytes or store.max_value_bytes) - HEADER_BYTES
    return msgspec.structs.replace(store, max_config_bytes=largest)


def record_key(key: ConfigKey) -> RecordKey:
    """Where the present value of the key is."""
    return RecordKey(_bucket(key), NAME)


def _bucket(key: ConfigKey, root: str = ROOT) -> tuple[str, ...]:
    return root, encode_segment(key.group), encode_segment(key.key)


def _archived_name(serial: int) -> str:
    return f"{serial:012d}"


def _value_of(found: StoreSnapshot | None) -> Stored | None:
    records = found.records if found is not None else ()
    return next((one for one in records if one.record.name == NAME), None)


def _found(key: ConfigKey, envelope: Envelope | None) -> ConfigItem | Absent | None:
    if envelope is None:
        return ABSENT
    return None if envelope.gone else envelope.item(key)


def _said(key: ConfigKey, stored: Stored | None) -> ConfigItem | Rejected | Absent | None:
    if stored is None:
        return ABSENT
    try:
        return _found(key, Envelope.decode(stored.record.value))
    except CorruptRecord as error:
        return Rejected(str(key), str(error))


def _check(key: ConfigKey, present: _Present, expected: str | Absent | None) -> None:
    """Raise `Conflict` if the present value is not the expected one."""
    if expected is None:
        return
    if present.problem is not None:
        raise present.problem
    found = None if present.value is None else present.value.revision
    wanted = None if isinstance(expected, Absent) else expected
    if found != wanted:
        stands = "has no value" if found is None else f"is at the revision {found}"
        demanded = "to have none" if wanted is None else f"at {wanted}"
        raise Conflict(
            f"{key} {stands}, and was expected {demanded}: read it again, and decide anew",
            expected=wanted,
            present=found,
        )


def _too_fast(key: ConfigKey) -> Conflict:
    return Conflict(f"{key} changes faster than it can be written: nothing was, after {ATTEMPTS} attempts")
