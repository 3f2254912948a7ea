"""A registry made of a store and a layout: what is wanted against what was attempted, key by key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from sofa_registry_adapters.engine.assembly import CHUNK, Assembly
from sofa_registry_adapters.engine.ledger import Held, Ledger, Refusals
from sofa_registry_adapters.engine.reactor import Closing, bounded
from sofa_registry_adapters.engine.sources import Sources, read_sources
from sofa_registry_adapters.errors import Conflict, InvalidArgument, RegistryError, Unavailable, Unsupported
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Snapshot, Wanted
from sofa_registry_adapters.spi.store import (
    Bucket,
    ConditionalStore,
    ListableStore,
    RecordKey,
    RecordStore,
    ResumableStore,
    Stored,
    StorePatch,
    StoreSnapshot,
)

T = TypeVar("T")
ECHOES = 3
"""Renewals after which a late write is not expected any more."""
BATCH = 1000
"""Records in one exchange with the store."""
TAKEOVERS = 32
"""Conditional writes at a time."""


class StoreRegistry(RegistryBackend):
    """See the module. ``call_timeout`` bounds each exchange with the store, in seconds."""

    def __init__(self, store: RecordStore, layout: ServiceLayout, call_timeout: float = 5.0) -> None:
        self._store = store
        self._layout = layout
        self._call_timeout = call_timeout
        self._ledger = Ledger()
        self._assemblies: dict[ServiceKey, Assembly] = {}
        self._echoes: dict[RecordKey, int] = {}
        self._missing: set[RecordKey] = set()
        self._services: Collection[ServiceKey] = ()
        # One writer at a time: an echo deleted beside a new publish of the same key would take that away.
        self._writing = asyncio.Lock()
        # A layout that overrides `records` may let one record speak for several services.
        self._separable = type(layout).records is ServiceLayout.records
        self._capabilities = msgspec.structs.replace(
            store.capabilities,
            announces_withdrawal=store.capabilities.announces_withdrawal and layout.marks_leaving,
        )

    @property
    def capabilities(self) -> Capabilities:
        """The store's, less what the layout cannot say."""
        return self._capabilities

    @property
    def lease(self) -> float:
        """The store's lease, in seconds."""
        return self._store.lease

    async def open(self) -> None:
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        refusals = Refusals()
        async with self._writing:
            self._services = wanted.instances.keys()
            held = self._ledger.of(changed if self._separable else (None,))
            desired = await self._desired(wanted, changed, refusals)
            puts = [one for one in desired.values() if not self._stands(one)]
            for batch in _batches(puts, self._layout.batch or BATCH):
                await self._put(batch, changed, refusals)
                if len(puts) > len(batch):
                    await asyncio.sleep(0)
            gone = [key for key in reversed(held) if key not in desired]
            for keys in _batches(self._forget_kept(gone), BATCH):
                await self._delete(keys, changed, refusals)
                if len(gone) > len(keys):
                    await asyncio.sleep(0)
        return refusals.by_service()

    async def _desired(
        self, wanted: Wanted, changed: Collection[ServiceKey], refusals: Refusals
    ) -> dict[RecordKey, Held]:
        if not self._separable:
            return {record.key: Held(record.key, record) for record in self._layout.records(wanted)}
        desired = {}
        made = 0
        for service in changed:
            for instance in wanted.instances.get(service, ()):
                held = self._ledger.of_instance(service, instance)
                if held is None:
                    made += 1
                    if made % CHUNK == 0:
                        await asyncio.sleep(0)
                    held = self._make(service, instance, refusals)
                if held is not None:
                    desired[held.key] = held
        return desired

    def _make(self, service: ServiceKey, instance: Instance, refusals: Refusals) -> Held | None:
        try:
            record = self._layout.record(service, instance)
        except Exception as error:  # noqa: BLE001  one instance that cannot be written must not hold up the rest
            reason = InvalidArgument(f"{instance.instance_id!r} cannot be written as {self._layout.name}: {error}")
            refusals.add((service,), reason, frozenset((instance.instance_id,)))
            # What stands of it stays: a refused update takes nothing away.
            return self._ledger.last(service, instance.instance_id)
        return Held(record.key, record, service, instance)

    def _stands(self, one: Held) -> bool:
        held = self._ledger.get(one.key)
        return held is not None and held.confirmed and (held is one or held.record == one.record)

    async def _put(self, batch: Sequence[Held], changed: Collection[ServiceKey], refusals: Refusals) -> None:
        before = {one.key: self._ledger.attempt(one) for one in batch}
        async with self._bounded("writing"):
            answers = await self._store.put([one.record for one in batch])
        conflicts: list[tuple[Held, RegistryError]] = []
        refused: list[tuple[Held, RegistryError]] = []
        for one in batch:
            answer = answers[one.key]
            if isinstance(answer, Conflict):
                conflicts.append((one, answer))
            elif isinstance(answer, RegistryError):
                refused.append((one, answer))
            else:
                one.confirmed, one.uncertain = True, False
        for one, error in (*refused, *await self._take_over(conflicts)):
            self._settle_refused(one, before[one.key], error)
            refusals.add(self._concerned(one, changed), error, one.instance_ids)

    def _concerned(self, one: Held, changed: Collection[ServiceKey]) -> Collection[ServiceKey]:
        return changed if one.service is None else (one.service,)

    def _settle_refused(self, one: Held, before: Held | None, error: RegistryError) -> None:
        if isinstance(error, Unavailable):
            one.uncertain = True
        elif before is None and not one.uncertain:
            self._ledger.drop(one.key)
        elif before is not None:
            self._ledger.place(before)
            before.confirmed = False if isinstance(error, Conflict) else before.confirmed

    async def _take_over(self, conflicts: Sequence[tuple[Held, RegistryError]]) -> list[tuple[Held, RegistryError]]:
        """Take the records whose holders are older than ours; the rest is returned with the reason."""
        refused: list[tuple[Held, RegistryError]] = []
        if not conflicts:
            return refused
        if not isinstance(self._store, ConditionalStore):
            return list(conflicts)
        current: dict[RecordKey, Stored] = {}
        for path in dict.fromkeys(one.record.bucket for one, _ in conflicts):
            current |= {stored.key: stored for stored in (await self._read(Bucket(path))).records}
        for batch in _batches(conflicts, TAKEOVERS):
            outcomes = await asyncio.gather(*(self._claim(one, current.get(one.key)) for one, _ in batch))
            refused += [(one, error) for (one, _), error in zip(batch, outcomes, strict=True) if error]
        return refused

    async def _claim(self, one: Held, stored: Stored | None) -> RegistryError | None:
        """Replace what is ``stored`` by our record if ours is the newer one; the reason if it is not."""
        assert isinstance(self._store, ConditionalStore)  # noqa: S101  the caller looked
        if stored is not None and not self._newer(one, stored):
            return Conflict(
                f"the record {one.record.name!r} in {'/'.join(one.record.bucket)} is held by a newer publisher: "
                "stop the other process, or give this one another instance_id"
            )
        try:
            async with self._bounded("taking over"):
                await self._store.compare_and_put(one.record, stored.revision if stored else None)
        except Conflict as error:
            # It went, or became another, since it was read: nobody has said yet that ours is not to be there.
            return Unavailable(
                f"the record {one.record.name!r} changed while it was taken over, which is tried again: {error}"
            )
        except RegistryError as error:
            return error
        one.confirmed, one.uncertain = True, False
        return None

    def _newer(self, one: Held, stored: Stored) -> bool:
        if stored.owner == "mine":
            return True
        for service in (one.service,) if one.service is not None else self._services:
            try:
                ours = self._layout.decode(service, Stored(one.record, "", "mine"), {})
                theirs = self._layout.decode(service, stored, {})
            except RegistryError:
                return False
            if ours is not None and theirs is not None:
                same = bool(ours.owner) and ours.owner == theirs.owner
                return same or (ours.started, ours.owner) > (theirs.started, theirs.owner)
        return False

    def _forget_kept(self, gone: Sequence[RecordKey]) -> list[RecordKey]:
        """What is to be deleted; records that others may rely on stay where they are."""
        deleted = []
        for key in gone:
            held = self._ledger.get(key)
            if held is not None and held.record.keep:
                self._ledger.drop(key)
            else:
                deleted.append(key)
        return deleted

    async def _delete(self, keys: Sequence[RecordKey], changed: Collection[ServiceKey], refusals: Refusals) -> None:
        async with self._bounded("deleting"):
            refused = await self._store.delete(keys)
        for key in keys:
            held = self._ledger.get(key)
            if held is None:
                continue
            if (error := refused.get(key)) is not None:
                refusals.add(self._concerned(held, changed), error, held.instance_ids)
                continue
            if held.uncertain or not held.confirmed:
                self._echoes[key] = ECHOES
            self._ledger.drop(key)

    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        async with self._bounded("renewing"):
            # Noted at once: a store need not tell a key twice.
            self._missing.update(await self._store.renew())
        for key in [key for key in self._missing if self._ledger.get(key) is None]:
            # Withdrawn, and there again: the product went back to older data.
            self._missing.discard(key)
            self._echoes.setdefault(key, 1)
        await self._delete_echoes()
        missing, self._missing = self._missing, set()
        lost: dict[ServiceKey, frozenset[str]] = {}
        for key in missing:
            held = self._ledger.get(key)
            if held is None:
                continue
            held.confirmed = False
            for service in self._services if held.service is None else (held.service,):
                lost[service] = lost.get(service, frozenset()) | held.instance_ids
        return lost

    async def lost(self) -> None:
        await self._store.lost()

    async def _delete_echoes(self) -> None:
        """Delete again what was withdrawn after a write of unknown outcome, which may have come late."""
        if not self._echoes or self._writing.locked():
            return
        async with self._writing:
            keys = [key for key in self._echoes if self._ledger.get(key) is None]
            if keys:
                async with self._bounded("deleting"):
                    await self._store.delete(keys)
            self._echoes = {key: self._echoes[key] - 1 for key in keys if self._echoes[key] > 1}

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        simple = type(self._layout).sources is ServiceLayout.sources
        assembly = Assembly(self._layout, service, self._assemblies.get(service))
        if simple:
            async with self._bounded("reading"):
                found = await self._store.read(self._layout.bucket(service), known)
            if found is None:
                return None
            snapshot = await assembly.reset(_by_key(found.records), found.revision)
        else:
            snapshot = await assembly.reset(*await read_sources(self._read, self._layout, service))
        if not self._capabilities.push:
            self._remember(service, assembly)
        return snapshot

    def _remember(self, service: ServiceKey, assembly: Assembly) -> None:
        """Nothing else knows what a record said last, where there is no watch. Of names that nobody has there may be any number."""
        if assembly.good:
            self._assemblies[service] = assembly
        else:
            self._assemblies.pop(service, None)

    async def _read(self, bucket: Bucket) -> StoreSnapshot:
        async with self._bounded("reading"):
            found = await self._store.read(bucket)
        return found if found is not None else StoreSnapshot(Revision())

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        # The assembly outlives a cut, and with it the last good value of a record that became corrupt.
        assembly = self._assemblies.setdefault(service, Assembly(self._layout, service))
        if type(self._layout).sources is not ServiceLayout.sources:
            async with Closing(Sources(self._store, self._layout, service).watch(assembly)) as updates:
                async for update in updates:
                    yield update
            return
        async with Closing(self._messages(self._layout.bucket(service), assembly.since)) as messages:
            async for message in messages:
                # Whoever is cut short in the midst of a message, or does not come back for the next one, begins anew.
                assembly.since = None
                yield await _fold(assembly, message)
                assembly.since = message.revision

    def _messages(self, bucket: Bucket, since: Revision | None) -> AsyncIterator[StoreSnapshot | StorePatch]:
        if since is not None and isinstance(self._store, ResumableStore):
            return self._store.resume(bucket, since)
        return self._store.watch(bucket)

    def forget(self, service: ServiceKey) -> None:
        """The service is watched no more."""
        self._assemblies.pop(service, None)

    async def services(self) -> Sequence[ServiceKey]:
        if not isinstance(self._store, ListableStore):
            raise Unsupported("this registry cannot list its services")
        root = self._layout.root()
        async with self._bounded("listing"):
            names = await self._store.buckets(root)
        return sorted(key for name in names if (key := self._layout.service_of(name)) is not None)

    def _bounded(self, doing: str) -> contextlib.AbstractAsyncContextManager[None]:
        return bounded(self._call_timeout, doing)


async def _fold(assembly: Assembly, message: StoreSnapshot | StorePatch) -> Snapshot | Patch:
    if isinstance(message, StoreSnapshot):
        return await assembly.reset(_by_key(message.records), message.revision)
    return await assembly.apply(_by_key(message.changed), message.removed, message.revision)


def _by_key(records: Sequence[Stored]) -> Mapping[RecordKey, Stored]:
    return {one.key: one for one in records}


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
