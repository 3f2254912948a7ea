"""A mirror of a store whose watches go on from where they were, and comparisons that are faster than these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from mirror_glass import SERVICE, Glass
from store_double import NATIVE, Double, bounded, one

from sofa_registry_adapters import Revision
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.store import Bucket, ResumableStore, Stored, StorePatch, StoreSnapshot


class History(Double, ResumableStore):
    """A store that remembers each of its revisions; a test can have its watches lag behind, and cut them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.began: list[Revision | None] = []
        self.told = 0
        self.cut = asyncio.Event()

    def _record(self, counter: int) -> Stored:
        return Stored(NATIVE.record(SERVICE, one(self.names[counter - 1])), f"{counter}", "other")

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        counter = len(self.names)
        return StoreSnapshot(Revision("e", counter), tuple(self._record(at + 1) for at in range(counter)))

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        self.began.append(None)
        found = await self.read(bucket)
        assert found is not None
        self.told = found.revision.counter
        yield found
        async for message in self._tell(self.told):
            yield message

    async def resume(self, bucket: Bucket, since: Revision) -> AsyncIterator[StoreSnapshot | StorePatch]:
        self.began.append(since)
        yield StorePatch(since)
        async for message in self._tell(since.counter):
            yield message

    async def _tell(self, counter: int) -> AsyncIterator[StorePatch]:
        while not self.cut.is_set():
            while counter < self.told:
                counter += 1
                yield StorePatch(Revision("e", counter), (self._record(counter),))
            await asyncio.sleep(0)
        self.cut.clear()
        raise Unavailable("it was cut")


@bounded
async def test_a_watch_that_is_resumed_behind_a_comparison_begins_anew_once() -> None:
    store = History()
    store.names = ["x"]
    async with Glass(backend=StoreRegistry(store, NATIVE, call_timeout=5)) as glass:
        assert glass.ids() == "x"
        store.names.append("y")
        await glass.pass_by(40)
        assert glass.ids() == "xy", "a comparison has found it, which the watch has not told"
        store.cut.set()
        await glass.pass_by(5)
        assert store.began == [None, Revision("e", 1), None]
        assert not glass.mirror.view().stale
        store.names.append("z")
        store.told = 3
        await glass.pass_by(1)
        assert glass.ids() == "xyz"


@bounded
async def test_a_watch_that_tells_late_what_a_comparison_has_found_begins_anew_once() -> None:
    store = History()
    store.names = ["x"]
    async with Glass(backend=StoreRegistry(store, NATIVE, call_timeout=5)) as glass:
        store.names += ["y", "z"]
        await glass.pass_by(40)
        assert glass.ids() == "xyz"
        store.told = 2
        await glass.pass_by(5)
        assert store.began == [None, None]
        assert not glass.mirror.view().stale
        store.names.append("w")
        store.told = 4
        await glass.pass_by(1)
        assert glass.ids() == "wxyz"
