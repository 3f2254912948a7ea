"""The record store on a space."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import ClassVar

from sofa_registry_adapters.backends.memory.sessions import Feed, Session
from sofa_registry_adapters.backends.memory.spaces import CAPABILITIES, Space, Verb, space
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


class MemoryStore(RecordStore, ConditionalStore, ListableStore, DiagnosableStore):
    """A store on the space that the target names; ``space`` has the faults."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    proof: ClassVar[str] = "when it was closed, or its lease is over"

    def __init__(self, target: Target, clock: Clock) -> None:
        self.space: Space = space(target.path.strip("/"), target.text("namespace"))
        self.lease: float = target.number("lease")
        self._clock = clock
        self._name = self.space.enroll()
        self._openings = itertools.count(1)
        self._session: Session | None = None

    @property
    def owner(self) -> str:
        """The name of this store in its space; another one after each `open`."""
        return self._name if self._session is None else self._session.owner

    async def open(self) -> None:
        await self._pass("open")
        if self._session is None:
            self._session = self.space.join(f"{self._name}/{next(self._openings)}", self._clock, self.lease)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self.space.leave(session)

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        return self.space.put(await self._enter("put"), records)

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        self.space.delete(await self._enter("delete"), keys)
        return {}

    async def renew(self) -> Collection[RecordKey]:
        return self.space.renew(await self._enter("renew"))

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        return self.space.read(await self._enter("read"), bucket, known)

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        session = await self._enter("watch")
        news = Flag()
        feed = Feed(session, bucket, _from_any_thread(asyncio.get_running_loop(), news))
        self.space.subscribe(feed)
        try:
            while True:
                news.clear()
                while (message := self.space.take(feed)) is not None:
                    yield message
                await news.wait()
        finally:
            self.space.unsubscribe(feed)

    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        return self.space.compare_and_put(await self._enter("compare_and_put"), record, expected)

    async def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        self.space.compare_and_delete(await self._enter("compare_and_delete"), key, expected)

    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        return self.space.buckets(await self._enter("buckets"), parent)

    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        return Diagnosis()

    async def dead(self, keys: Sequence[RecordKey]) -> Collection[RecordKey]:
        return [key for key in keys if self.space.is_orphan(key)]

    async def _enter(self, verb: Verb) -> Session:
        if self._session is None:
            raise Closed(f"the store is not open: {verb} comes after open")
        await self._pass(verb)
        if self._session is None:
            raise Closed(f"the store was closed during {verb}")
        return self._session

    async def _pass(self, verb: Verb) -> None:
        self.space.check(self.owner, verb)
        if self.space.delay:
            await self._clock.sleep(self.space.delay)


def _from_any_thread(loop: asyncio.AbstractEventLoop, news: Flag) -> Callable[[], None]:
    def wake() -> None:
        # The loop may be closed by now: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(news.set)

    return wake
