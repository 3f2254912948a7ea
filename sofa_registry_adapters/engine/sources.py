"""Layouts that need several reads to find a service: a mapping, then what it points to, until it is stable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from sofa_registry_adapters.engine.assembly import Assembly
from sofa_registry_adapters.engine.reactor import Closing, stop_tasks
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.registry import Patch, Snapshot
from sofa_registry_adapters.spi.store import Bucket, RecordKey, RecordStore, Stored, StorePatch, StoreSnapshot

Reader = Callable[[Bucket], Awaitable[StoreSnapshot]]
Seen = dict[RecordKey, Stored]
Message = StoreSnapshot | StorePatch | RegistryError

MOST_SOURCES = 10_000
"""Buckets of one service; a layout that wants more is going round in circles."""


def joined(revisions: dict[Bucket, Revision]) -> Revision:
    """One revision for several buckets: the sum, in an epoch that belongs to just this set."""
    epochs = sorted((*bucket.path, revision.epoch) for bucket, revision in revisions.items())
    return Revision("|".join("/".join(epoch) for epoch in epochs), sum(one.counter for one in revisions.values()))


async def read_sources(read: Reader, layout: ServiceLayout, service: ServiceKey) -> tuple[Seen, Revision]:
    """Everything that the layout needs to know the service, and the revision of it all."""
    seen: Seen = {}
    revisions: dict[Bucket, Revision] = {}
    while todo := [one for one in layout.sources(service, seen) if one not in revisions]:
        _check_count(len(revisions) + len(todo), service)
        for bucket in todo:
            snapshot = await read(bucket)
            revisions[bucket] = snapshot.revision
            seen |= {stored.key: stored for stored in snapshot.records}
    return seen, joined(revisions)


class Sources:
    """The watches behind one service, opened and closed as the layout's answer changes."""

    def __init__(self, store: RecordStore, layout: ServiceLayout, service: ServiceKey) -> None:
        self._store = store
        self._layout = layout
        self._service = service
        self._messages: asyncio.Queue[tuple[Bucket, Message]] = asyncio.Queue(maxsize=1000)
        self._tasks: dict[Bucket, asyncio.Task[None]] = {}
        self._records: dict[Bucket, Seen] = {}
        self._revisions: dict[Bucket, Revision] = {}

    async def watch(self, assembly: Assembly) -> AsyncIterator[Snapshot | Patch]:
        """A snapshot once every source answered, then patches. Raises when any source is cut."""
        current: Snapshot | None = None
        try:
            self._follow(self._wanted())
            while True:
                await self._receive()
                if not self._settle():
                    continue
                update = await assembly.reset(self._seen(), joined(self._revisions))
                step = update if current is None else _difference(current, update)
                current = update
                yield step
        finally:
            await stop_tasks(*self._tasks.values())

    def _wanted(self) -> frozenset[Bucket]:
        wanted = self._layout.sources(self._service, self._seen())
        _check_count(len(wanted), self._service)
        return wanted

    def _seen(self) -> Seen:
        return {key: stored for records in self._records.values() for key, stored in records.items()}

    def _settle(self) -> bool:
        """Follow what the layout wants now; whether all of it is known."""
        wanted = self._wanted()
        for bucket in [one for one in self._tasks if one not in wanted]:
            self._tasks.pop(bucket).cancel()
            self._records.pop(bucket, None)
            self._revisions.pop(bucket, None)
        self._follow(wanted)
        return all(bucket in self._revisions for bucket in wanted)

    def _follow(self, wanted: frozenset[Bucket]) -> None:
        for bucket in wanted:
            if bucket not in self._tasks:
                self._tasks[bucket] = asyncio.create_task(self._pump(bucket))

    async def _pump(self, bucket: Bucket) -> None:
        try:
            async with Closing(self._store.watch(bucket)) as messages:
                async for message in messages:
                    await self._messages.put((bucket, message))
            raise Unavailable("the watch ended")
        except RegistryError as error:
            await self._messages.put((bucket, error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._messages.put((bucket, Unavailable("the watch was given up by the store itself")))
        except Exception as error:  # noqa: BLE001  a store's bug ends the watch, not in silence
            await self._messages.put((bucket, Unavailable(f"the watch failed: {type(error).__name__}: {error}")))

    async def _receive(self) -> None:
        """Apply the next message, and all that wait behind it."""
        self._apply(*await self._messages.get())
        while not self._messages.empty():
            self._apply(*self._messages.get_nowait())

    def _apply(self, bucket: Bucket, message: Message) -> None:
        if bucket not in self._tasks:
            return
        if isinstance(message, RegistryError):
            raise message
        self._revisions[bucket] = message.revision
        if isinstance(message, StoreSnapshot):
            self._records[bucket] = {stored.key: stored for stored in message.records}
            return
        records = self._records.setdefault(bucket, {})
        for stored in message.changed:
            records[stored.key] = stored
        for key in message.removed:
            records.pop(key, None)


def _difference(before: Snapshot, after: Snapshot) -> Snapshot | Patch:
    if before.revision.epoch != after.revision.epoch:
        return after
    old = {one.instance_id: one for one in before.instances}
    new = {one.instance_id: one for one in after.instances}
    changed = tuple(one for name, one in new.items() if old.get(name) != one)
    return Patch(after.revision, changed, tuple(name for name in old if name not in new), after.rejected)


def _check_count(count: int, service: ServiceKey) -> None:
    if count > MOST_SOURCES:
        raise Unavailable(f"the layout wants {count} buckets for {service}, more than {MOST_SOURCES}")
