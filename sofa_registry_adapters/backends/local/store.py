"""The record store on one SQLite file. All SQLite work is on threads of the store; the loop never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import ClassVar, TypeVar

from sofa_registry_adapters.backends.local import BACKEND, LEASE
from sofa_registry_adapters.backends.local.place import Place
from sofa_registry_adapters.backends.local.poller import Watch
from sofa_registry_adapters.backends.local.records import Names
from sofa_registry_adapters.backends.local.session import Session
from sofa_registry_adapters.errors import Closed, RegistryError
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.diagnosis import DiagnosableStore, Diagnosis
from sofa_registry_adapters.spi.flag import Flag
from sofa_registry_adapters.spi.options import Capabilities, Target
from sofa_registry_adapters.spi.store import (
    Bucket,
    ConditionalStore,
    ListableStore,
    Record,
    RecordKey,
    RecordStore,
    StorePatch,
    StoreSnapshot,
)
from sofa_registry_adapters.spi.worker import Worker

T = TypeVar("T")

_CLOSE_WITHIN = 1.0
_CALL_TIMEOUT = 5.0


class _Opening:
    """A session with its two threads: writes do not hold up what watches read."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pid = os.getpid()
        self._writer = Worker("sofa-registry local writer")
        self._reader = Worker("sofa-registry local reader")

    async def write(self, function: Callable[..., T], *args: object) -> T:
        return await self._writer.run(self._call, function, *args)

    async def read(self, function: Callable[..., T], *args: object) -> T:
        return await self._reader.run(self._call, function, *args)

    def _call(self, function: Callable[..., T], *args: object) -> T:
        try:
            return function(*args)
        finally:
            if self.session.ended:
                # `end` did not wait for this call.
                self.session.drop()

    async def end(self) -> None:
        """Leave, within a second. Never raises, but lets a cancellation through."""
        self.session.stop_waiting()
        try:
            with contextlib.suppress(TimeoutError, RegistryError):
                async with asyncio.timeout(_CLOSE_WITHIN):
                    await self._writer.run(self.session.leave)
        finally:
            self.session.abandon()
            self._writer.stop()
            self._reader.stop()


class LocalStore(RecordStore, ConditionalStore, ListableStore, DiagnosableStore):
    """A store in the file that the target names."""

    capabilities: ClassVar[Capabilities] = BACKEND.capabilities
    proof: ClassVar[str] = "when its process has ended; one that only hangs may come back"

    def __init__(self, target: Target, clock: Clock) -> None:
        self.lease: float = _seconds(target, LEASE.name, float(LEASE.default or 0))
        self._clock = clock
        self._patience = _seconds(target, "call_timeout", _CALL_TIMEOUT)
        self._names = Names(target.text("namespace"))
        self._place = Place(target.path)
        self._opening: _Opening | None = None

    async def open(self) -> None:
        current = self._opening
        if current is not None and current.pid == os.getpid():
            if current.session.replaced:
                await current.write(current.session.return_to_file)
            return
        opening = _Opening(Session(self._place, self._clock, self.lease, self._patience, self._names))
        try:
            await opening.write(opening.session.open)
        except BaseException:
            await opening.end()
            raise
        self._opening = opening

    async def close(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None and opening.pid == os.getpid():
            await opening.end()

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        opening = self._enter("put")
        return await opening.write(opening.session.put, records)

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        opening = self._enter("delete")
        return await opening.write(opening.session.delete, keys)

    async def renew(self) -> Collection[RecordKey]:
        opening = self._enter("renew")
        return await opening.write(opening.session.renew)

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        opening = self._enter("read")
        return await opening.read(opening.session.read, bucket, known)

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        opening = self._enter("watch")
        session = opening.session
        news = Flag()
        first = await opening.read(session.snapshot, bucket)
        epoch = first.revision.epoch
        watch = Watch(bucket, first.revision.counter, _from_any_thread(asyncio.get_running_loop(), news))
        try:
            session.poller.add(watch)
            yield first
            while True:
                await news.wait()
                news.clear()
                keys, counter = watch.take()
                if keys is None:
                    yield await opening.read(session.snapshot, bucket)
                elif keys:
                    yield await opening.read(session.patch, keys, Revision(epoch, counter))
        finally:
            session.poller.remove(watch)

    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        opening = self._enter("compare_and_put")
        return await opening.write(opening.session.compare_and_put, record, expected)

    async def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        opening = self._enter("compare_and_delete")
        await opening.write(opening.session.compare_and_delete, key, expected)

    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        opening = self._enter("buckets")
        return await opening.read(opening.session.buckets, parent)

    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        self._enter("diagnose")
        return Diagnosis(server=f"SQLite {sqlite3.sqlite_version}")

    async def dead(self, keys: Sequence[RecordKey]) -> Collection[RecordKey]:
        opening = self._enter("dead")
        return await opening.read(opening.session.dead, keys)

    def _enter(self, verb: str) -> _Opening:
        opening = self._opening
        if opening is None:
            raise Closed(f"the store is not open: {verb} comes after open")
        if opening.pid != os.getpid():
            raise Closed(f"the store was opened before a fork: open it in this process before {verb}")
        return opening


def _seconds(target: Target, name: str, default: float) -> float:
    return default if target.options.get(name) is None else target.number(name)


def _from_any_thread(loop: asyncio.AbstractEventLoop, news: Flag) -> Callable[[], None]:
    def wake() -> None:
        # The loop may be closed by now: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(news.set)

    return wake
