"""A registry made of a store and a layout: what is wanted against what was attempted, key by key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from sofa_registry_adapters.engine.assembly import Assembly
from sofa_registry_adapters.engine.reactor import bounded, closing
from sofa_registry_adapters.engine.sources import Sources, read_sources
from sofa_registry_adapters.errors import Conflict, RegistryError, Unavailable, Unsupported
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
    Record,
    RecordKey,
    RecordStore,
    Stored,
    StoreSnapshot,
)

T = TypeVar("T")
BATCH = 1000
"""Records in one exchange with the store."""
TAKEOVERS = 32
"""Conditional writes at a time."""


class Held(msgspec.Struct, eq=False):
    """A record that was attempted: it may be in the store until a delete is acknowledged.

    ``instance`` is what it was made from, where it speaks for one instance of ``service`` alone.
    """

    key: RecordKey
    record: Record
    service: ServiceKey | None = None
    instance: Instance | None = None
    confirmed: bool = False
    uncertain: bool = False

    @property
    def instance_ids(self) -> frozenset[str]:
        """The instance, if it is one."""
        return frozenset((self.instance.instance_id,)) if self.instance is not None else frozenset()


class StoreRegistry(RegistryBackend):
    """See the module. ``call_timeout`` bounds each exchange with the store, in seconds."""

    def __init__(self, store: RecordStore, layout: ServiceLayout, call_timeout: float = 5.0) -> None:
        self._store = store
        self._layout = layout
        self._call_timeout = call_timeout
        self._held: dict[RecordKey, Held] = {}
        self._of: dict[ServiceKey | None, dict[RecordKey, None]] = {}
        self._by_id: dict[tuple[ServiceKey | None, str], Held] = {}
        self._assemblies: dict[ServiceKey, Assembly] = {}
        self._echoes: dict[RecordKey, int] = {}
        self._services: frozenset[ServiceKey] = frozenset()
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
        desired = self._desired(wanted, changed)
        self._services = frozenset(wanted.instances)
        held = [key for scope in self._scopes(changed) for key in self._of.get(scope, ())]
        errors: dict[ServiceKey, RegistryError] = {}
        puts = [one for one in desired.values() if not self._stands(one)]
        for batch in _batches(puts, self._layout.batch or BATCH):
            await self._put(batch, changed, errors)
        gone = [key for key in reversed(held) if key not in desired]
        for keys in _batches(gone, BATCH):
            await self._delete(keys, changed, errors)
        return errors

    def _scopes(self, changed: Collection[ServiceKey]) -> Collection[ServiceKey | None]:
        return changed if self._separable else (None,)

    def _desired(self, wanted: Wanted, changed: Collection[ServiceKey]) -> dict[RecordKey, Held]:
        if not self._separable:
            return {record.key: Held(record.key, record) for record in self._layout.records(wanted)}
        desired = {}
        for service in changed:
            for instance in wanted.instances.get(service, ()):
                held = self._by_id.get((service, instance.instance_id))
                if held is None or held.instance is not instance:
                    record = self._layout.record(service, instance)
                    held = Held(record.key, record, service, instance)
                desired[held.key] = held
        return desired

    def _stands(self, one: Held) -> bool:
        held = self._held.get(one.key)
        return held is not None and held.confirmed and (held is one or held.record == one.record)

    async def _put(
        self, batch: Sequence[Held], changed: Collection[ServiceKey], errors: dict[ServiceKey, RegistryError]
    ) -> None:
        before = {one.key: self._held.get(one.key) for one in batch}
        for one in batch:
            self._hold(one)
        async with self._bounded("writing"):
            answers = await self._store.put([one.record for one in batch])
        conflicts = []
        for one in batch:
            answer = answers[one.key]
            if isinstance(answer, Conflict):
                conflicts.append((one, answer))
            elif isinstance(answer, RegistryError):
                self._refuse(one, before[one.key], answer, changed, errors)
            else:
                one.confirmed, one.uncertain = True, False
        for one, refusal in await self._take_over(conflicts):
            self._refuse(one, before[one.key], refusal, changed, errors)

    def _hold(self, one: Held) -> None:
        before = self._held.get(one.key)
        # Until an answer comes, the record may be there whatever happens next.
        one.uncertain = before is not None and (before.uncertain or not before.confirmed)
        one.confirmed = False
        self._place(one)

    def _place(self, one: Held) -> None:
        self._held[one.key] = one
        self._of.setdefault(one.service, {})[one.key] = None
        if one.instance is not None:
            self._by_id[one.service, one.instance.instance_id] = one

    def _drop(self, key: RecordKey) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            keys = self._of[held.service]
            del keys[key]
            if not keys:
                del self._of[held.service]
            if held.instance is not None:
                self._by_id.pop((held.service, held.instance.instance_id), None)

    def _refuse(
        self,
        one: Held,
        before: Held | None,
        error: RegistryError,
        changed: Collection[ServiceKey],
        errors: dict[ServiceKey, RegistryError],
    ) -> None:
        if isinstance(error, Unavailable):
            one.uncertain = True
        elif before is None and not one.uncertain:
            self._drop(one.key)
        elif before is not None:
            self._place(before)
            before.confirmed = False if isinstance(error, Conflict) else before.confirmed
        for service in (one.service,) if one.service is not None else changed:
            known = errors[service].instance_ids if service in errors else frozenset()
            errors[service] = error.about(known | one.instance_ids) if one.instance_ids else error

    async def _take_over(self, conflicts: Sequence[tuple[Held, Conflict]]) -> list[tuple[Held, RegistryError]]:
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
        except RegistryError as error:
            return error
        one.confirmed, one.uncertain = True, False
        return None

    def _newer(self, one: Held, stored: Stored) -> bool:
        if stored.owner == "mine":
            return True
        try:
            service = one.service or next(iter(self._services))
            ours = self._layout.decode(service, Stored(one.record, "", "mine"), {})
            theirs = self._layout.decode(service, stored, {})
        except (RegistryError, StopIteration):
            return False
        if ours is None or theirs is None:
            return False
        if ours.owner and ours.owner == theirs.owner:
            return True
        return (ours.started, ours.owner) > (theirs.started, theirs.owner)

    async def _delete(
        self,
        keys: Sequence[RecordKey],
        changed: Collection[ServiceKey],
        errors: dict[ServiceKey, RegistryError],
    ) -> None:
        async with self._bounded("deleting"):
            refused = await self._store.delete(keys)
        for key in keys:
            held = self._held[key]
            error = refused.get(key)
            if error is None:
                if held.uncertain or not held.confirmed:
                    self._echoes[key] = 3
                self._drop(key)
                continue
            for service in (held.service,) if held.service is not None else changed:
                errors[service] = error

    async def renew(self) -> Collection[ServiceKey]:
        async with self._bounded("renewing"):
            missing = await self._store.renew()
        await self._delete_echoes()
        services: set[ServiceKey] = set()
        for key in missing:
            held = self._held.get(key)
            if held is not None:
                held.confirmed = False
                services |= {held.service} if held.service is not None else self._services
        return services

    async def _delete_echoes(self) -> None:
        """Delete again what was withdrawn after a write of unknown outcome, which may have come late."""
        if not self._echoes:
            return
        keys = [key for key in self._echoes if key not in self._held]
        if not keys:
            self._echoes.clear()
            return
        async with self._bounded("deleting"):
            await self._store.delete(keys)
        self._echoes = {key: self._echoes[key] - 1 for key in keys if self._echoes[key] > 1}

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        simple = type(self._layout).sources is ServiceLayout.sources
        assembly = Assembly(self._layout, service)
        if simple:
            async with self._bounded("reading"):
                found = await self._store.read(self._layout.bucket(service), known)
            if found is None:
                return None
            return await assembly.reset(found.records, {one.key: one for one in found.records}, found.revision)
        seen, revision = await read_sources(self._read, self._layout, service)
        return await assembly.reset(tuple(seen.values()), seen, revision)

    async def _read(self, bucket: Bucket) -> StoreSnapshot:
        async with self._bounded("reading"):
            found = await self._store.read(bucket)
        return found if found is not None else StoreSnapshot(Revision())

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        # The assembly outlives a cut, and with it the last good value of a record that became corrupt.
        assembly = self._assemblies.setdefault(service, Assembly(self._layout, service))
        if type(self._layout).sources is not ServiceLayout.sources:
            async with closing(Sources(self._store, self._layout, service).watch(assembly)) as updates:
                async for update in updates:
                    yield update
            return
        async with closing(self._store.watch(self._layout.bucket(service))) as messages:
            async for message in messages:
                if isinstance(message, StoreSnapshot):
                    seen = {one.key: one for one in message.records}
                    yield await assembly.reset(message.records, seen, message.revision)
                else:
                    seen = {one.key: one for one in message.changed}
                    yield assembly.apply(message.changed, message.removed, seen, message.revision)

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


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
