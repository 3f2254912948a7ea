"""The frame for stores of blocking calls, when nobody waits for a call any more: it goes on, and nothing of it stays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from typing import ClassVar

import pytest

from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.blocking import BlockingStore
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StoreSnapshot
from sofa_registry_adapters.testing.faults import eventually_async

NAME = "sofa-registry a place"


class SlowStore(BlockingStore):
    """Connects and disconnects when it is let."""

    capabilities: ClassVar[Capabilities] = Capabilities(push=False)

    def __init__(self) -> None:
        super().__init__("a place")
        self.steps: list[str] = []
        self.connecting, self.disconnecting = threading.Event(), threading.Event()

    def connect(self) -> None:
        self._step("connect", self.connecting)

    def disconnect(self) -> None:
        self._step("disconnect", self.disconnecting)

    def _step(self, name: str, let: threading.Event) -> None:
        self.steps.append(name)
        assert let.wait(10)
        self.steps.append(f"{name}ed")

    def write(self, record: Record) -> str:
        raise Unavailable("it keeps nothing")

    def remove(self, key: RecordKey) -> None:
        raise Unavailable("it keeps nothing")

    def keep_alive(self) -> Collection[RecordKey]:
        return ()

    def load(self, bucket: Bucket, known: Revision | None) -> StoreSnapshot | None:
        return None


def threads() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


async def cut_short(work: object) -> None:
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_connection_that_nobody_waited_for_is_ended_by_close() -> None:
    async def test() -> None:
        store = SlowStore()
        store.disconnecting.set()
        await cut_short(store.open())
        store.connecting.set()
        await store.close()
        assert store.steps == ["connect", "connected", "disconnect", "disconnected"]
        await eventually_async(lambda: not threads(), 5, "its thread ends")

    asyncio.run(test())


def test_a_connection_that_nobody_waited_for_is_used_by_the_next_open() -> None:
    async def test() -> None:
        store = SlowStore()
        store.disconnecting.set()
        await cut_short(store.open())
        store.connecting.set()
        await store.open()
        await store.close()
        assert store.steps == ["connect", "connected", "disconnect", "disconnected"]

    asyncio.run(test())


def test_a_close_that_is_cut_short_leaves_no_thread() -> None:
    async def test() -> None:
        store = SlowStore()
        store.connecting.set()
        await store.open()
        await cut_short(store.close())
        store.disconnecting.set()
        await eventually_async(lambda: not threads(), 5, "its thread ends")
        assert store.steps[2:] == ["disconnect", "disconnected"]

    asyncio.run(test())


def test_a_close_that_is_cut_short_is_waited_for_by_the_next_open() -> None:
    async def test() -> None:
        store = SlowStore()
        store.connecting.set()
        await store.open()
        await cut_short(store.close())
        opening = asyncio.create_task(store.open())
        await asyncio.sleep(0.05)
        assert store.steps == ["connect", "connected", "disconnect"]
        store.disconnecting.set()
        await opening
        assert store.steps[3:] == ["disconnected", "connect", "connected"]
        await store.close()
        await eventually_async(lambda: not threads(), 5, "its threads end")

    asyncio.run(test())
