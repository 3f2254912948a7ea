"""What a registry on a store can do, its opening and closing, and a watch that goes on from where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from store_double import NATIVE, A, Double, Hops, bounded, key, name, one, store

from sofa_registry_adapters import Revision
from sofa_registry_adapters.engine.assembly import CHUNK
from sofa_registry_adapters.engine.reactor import Closing
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import (
    Denied,
)
from sofa_registry_adapters.spi.registry import Patch, Snapshot
from sofa_registry_adapters.spi.store import (
    Bucket,
    ResumableStore,
    Stored,
    StorePatch,
    StoreSnapshot,
)

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name", "store"]


def test_a_registry_can_do_what_its_store_and_its_layout_can(store: Double) -> None:
    assert StoreRegistry(store, NATIVE).capabilities.announces_withdrawal
    assert not StoreRegistry(store, Hops()).capabilities.announces_withdrawal
    assert StoreRegistry(store, NATIVE).lease == 9.0


@bounded
async def test_opening_and_closing_are_the_stores() -> None:
    store = Double()
    registry = StoreRegistry(store, NATIVE)
    store.raising["open"] = [Denied("no")]
    with pytest.raises(Denied):
        await registry.open()
    await registry.open()
    await registry.close()


class Chronicle(Double, ResumableStore):
    """A store that keeps the history of changes."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: asyncio.Queue[StoreSnapshot | StorePatch] = asyncio.Queue()
        self.began: list[Revision | None] = []

    def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        return self._tell(None)

    def resume(self, bucket: Bucket, since: Revision) -> AsyncIterator[StoreSnapshot | StorePatch]:
        return self._tell(since)

    async def _tell(self, since: Revision | None) -> AsyncIterator[StoreSnapshot | StorePatch]:
        self.began.append(since)
        while True:
            yield await self.messages.get()


def other(name: str, **fields: object) -> Stored:
    return Stored(NATIVE.record(A, one(name, **fields)), "1", "other")


async def cut_while_waiting(updates: AsyncIterator[Snapshot | Patch]) -> None:
    waiting = asyncio.ensure_future(anext(updates))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()


@bounded
async def test_a_watch_whose_last_message_was_not_taken_begins_anew() -> None:
    store = Chronicle()
    registry = StoreRegistry(store, NATIVE, call_timeout=5)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 5)))
    async with Closing(registry.watch(A)) as updates:
        await anext(updates)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 5)))
    async with Closing(registry.watch(A)) as updates:
        await anext(updates)
    assert store.began == [None, None]


@bounded
async def test_a_watch_is_resumed_from_the_last_message_that_was_folded_in() -> None:
    store = Chronicle()
    registry = StoreRegistry(store, NATIVE, call_timeout=5)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 5), (other("x"), other("y"))))
    async with Closing(registry.watch(A)) as updates:
        assert isinstance(await anext(updates), Snapshot)
        store.messages.put_nowait(StorePatch(Revision("e", 7), (other("z"),), (key("x"),)))
        assert isinstance(await anext(updates), Patch)
        await cut_while_waiting(updates)
    store.messages.put_nowait(StorePatch(Revision("e", 9), (other("y", weight=3),)))
    async with Closing(registry.watch(A)) as updates:
        update = await anext(updates)
        assert isinstance(update, Patch)
        assert [(each.instance_id, each.weight) for each in update.changed] == [("y", 3)]
    registry.forget(A)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 9)))
    async with Closing(registry.watch(A)) as updates:
        await anext(updates)
    assert store.began == [None, Revision("e", 7), None], "whom nobody followed is begun anew"


@bounded
async def test_a_watch_that_is_cut_short_in_a_message_begins_anew() -> None:
    store = Chronicle()
    registry = StoreRegistry(store, NATIVE, call_timeout=5)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 5)))
    async with Closing(registry.watch(A)) as updates:
        await anext(updates)
        many = [other(f"{number}") for number in range(CHUNK * 3)]
        store.messages.put_nowait(StorePatch(Revision("e", 6), many))
        folding = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not folding.done()
        folding.cancel()
        await asyncio.wait((folding,))
        assert folding.cancelled()
    store.messages.put_nowait(StoreSnapshot(Revision("e", 6)))
    async with Closing(registry.watch(A)) as updates:
        await anext(updates)
    assert store.began == [None, None]
