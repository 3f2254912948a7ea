"""The memory store beyond the contract: its faults, its leases by the clock, its threads; and the manual clock."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from bounded_tests import within

from sofa_registry_adapters.backends.memory import BACKEND, space
from sofa_registry_adapters.backends.memory.sessions import MAX_PENDING
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.errors import Closed, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import Clock, SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults.waiting import eventually, eventually_async

HERE = Bucket(("a",))


def record(name: str = "1", value: bytes = b"x", *, owned: bool = True) -> Record:
    return Record(("a",), name, value, owned=owned)


def key(name: str = "1") -> RecordKey:
    return RecordKey(("a",), name)


bounded = within(10)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make(name: str, clock: Clock | None = None, options: str = "") -> MemoryStore:
    return MemoryStore(parse_target(f"memory://{name}{options}", BACKEND), clock or SystemClock())


@asynccontextmanager
async def opened(name: str, clock: Clock | None = None, count: int = 2) -> AsyncIterator[list[MemoryStore]]:
    stores = [make(name, clock) for _ in range(count)]
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


async def names(store: MemoryStore) -> set[str]:
    answer = await store.read(HERE)
    assert answer is not None
    return {stored.record.name for stored in answer.records}


class TestSpaces:
    def test_a_space_is_its_name_and_namespace(self, name: str) -> None:
        assert make(name).space is make(name).space is space(name)
        assert make(name, options="?namespace=n").space is space(name, "n")
        assert space(name) is not space(name, "n")

    def test_the_backend_is_described_without_asyncio(self) -> None:
        code = (
            "import sys, sofa_registry_adapters.backends.memory as m; "
            "sys.exit('asyncio' in sys.modules or m.BACKEND.schemes != ('memory',))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0

    @bounded
    async def test_a_verb_before_open_is_refused(self, name: str) -> None:
        with pytest.raises(Closed, match="not open"):
            await make(name).put([record()])

    @bounded
    async def test_calls_are_counted(self, name: str) -> None:
        async with opened(name) as (store, _):
            await store.put([record(), record("2")])
            await store.renew()
            await store.renew()
            assert store.space.operations == {"open": 2, "put": 1, "renew": 2}


class TestFaults:
    @bounded
    async def test_expire(self, name: str) -> None:
        async with opened(name) as (store, other):
            await store.put([record("1"), record("kept", owned=False)])
            await other.put([record("2")])
            store.space.expire(store.owner)
            assert await names(other) == {"2", "kept"}
            assert await store.renew() == {key("1")}
            await store.put([record("1")])
            assert await store.renew() == frozenset()
            assert await names(other) == {"1", "2", "kept"}

    @bounded
    async def test_expire_all(self, name: str) -> None:
        async with opened(name) as (store, other):
            await store.put([record("1")])
            await other.put([record("2")])
            store.space.write_behind(record("3"), "nobody")
            store.space.expire_all()
            assert await names(store) == set()
            assert (await store.renew(), await other.renew()) == ({key("1")}, {key("2")})

    @bounded
    async def test_partition_of_everyone(self, name: str) -> None:
        async with opened(name) as (store, other):
            messages = other.watch(HERE)
            await anext(messages)
            store.space.partition()
            for call in (store.put([record()]), store.renew(), other.read(HERE), make(name).open()):
                with pytest.raises(Unavailable):
                    await call
            with pytest.raises(Unavailable):
                await anext(messages)
            store.space.heal()
            await store.put([record()])
            assert await names(other) == {"1"}

    @bounded
    async def test_partition_of_one_store_outlives_its_reopening(self, name: str) -> None:
        async with opened(name) as (store, other):
            store.space.partition(store.owner)
            await other.put([record()])
            with pytest.raises(Unavailable):
                await store.read(HERE)
            await store.close()
            with pytest.raises(Unavailable):
                await store.open()
            store.space.heal()
            await store.open()
            assert await names(store) == {"1"}

    @bounded
    async def test_close_in_a_partition_leaves_records_until_the_lease_is_over(
        self, name: str, clock: ManualClock
    ) -> None:
        async with opened(name, clock) as (store, other):
            await store.put([record()])
            store.space.partition(store.owner)
            await store.close()
            assert await names(other) == {"1"}
            clock.advance(store.lease - 0.1)
            await other.renew()
            assert await names(other) == {"1"}
            clock.advance(0.2)
            assert await names(other) == set()

    @bounded
    async def test_wipe_begins_another_epoch(self, name: str) -> None:
        async with opened(name) as (store, other):
            messages = other.watch(HERE)
            await store.put([record(), record("2", owned=False)])
            before = await anext(messages)
            store.space.wipe()
            after = await anext(messages)
            assert isinstance(after, StoreSnapshot)
            assert after.records == ()
            assert after.revision.epoch != before.revision.epoch
            assert await store.renew() == {key()}
            assert await store.read(HERE, before.revision) == after

    @bounded
    async def test_slow_takes_the_clock_s_time(self, name: str, clock: ManualClock) -> None:
        async with opened(name, clock) as (store, _):
            store.space.slow(3)
            call = asyncio.create_task(store.put([record()]))
            await eventually_async(lambda: clock.sleepers == 1)
            assert store.space.peek(key()) is None
            clock.advance(3)
            await call
            assert store.space.peek(key()) is not None
            store.space.slow(0)

    @bounded
    async def test_closed_while_slow(self, name: str, clock: ManualClock) -> None:
        async with opened(name, clock) as (store, _):
            store.space.slow(3)
            call = asyncio.create_task(store.put([record()]))
            await eventually_async(lambda: clock.sleepers == 1)
            await store.close()
            clock.advance(3)
            with pytest.raises(Closed):
                await call
            assert store.space.peek(key()) is None

    @bounded
    async def test_delete_behind(self, name: str) -> None:
        async with opened(name) as (store, other):
            messages = other.watch(HERE)
            await store.put([record()])
            await anext(messages)
            store.space.delete_behind(key())
            store.space.delete_behind(key("absent"))
            patch = await anext(messages)
            assert isinstance(patch, StorePatch)
            assert patch.removed == (key(),)
            assert await store.renew() == {key()}

    @bounded
    async def test_write_behind(self, name: str) -> None:
        async with opened(name) as (store, _):
            await store.put([record()])
            store.space.write_behind(record(value=b"\xff"), store.owner)
            assert await store.renew() == frozenset()
            store.space.write_behind(record(value=b"{"), "foreign")
            store.space.write_behind(record("2", owned=False))
            assert await store.renew() == {key()}
            answer = await store.read(HERE)
            assert answer is not None
            assert [one.owner for one in answer.records] == ["other", "none"]
            store.space.expire("foreign")
            assert await names(store) == {"2"}


class TestLeases:
    @bounded
    async def test_a_lease_goes_by_the_clock(self, name: str, clock: ManualClock) -> None:
        async with opened(name, clock) as (store, other):
            await store.put([record()])
            for _ in range(5):
                clock.advance(store.lease * 0.9)
                assert await store.renew() == frozenset()
                await other.renew()
            clock.advance(store.lease * 1.1)
            assert await names(other) == set()
            assert await store.renew() == {key()}

    @bounded
    async def test_a_watch_is_told_of_an_expired_owner(self, name: str, clock: ManualClock) -> None:
        async with opened(name, clock) as (store, other):
            await store.put([record()])
            messages = other.watch(HERE)
            await anext(messages)
            clock.advance(store.lease * 1.1)
            await other.renew()
            assert await anext(messages) == StorePatch(other.space.revision, removed=(key(),))


class TestWatches:
    @bounded
    async def test_a_watch_that_falls_behind_gets_a_fresh_snapshot(self, name: str) -> None:
        async with opened(name) as (store, other):
            messages = other.watch(HERE)
            await anext(messages)
            for number in range(MAX_PENDING + 1):
                await store.put([record(value=b"%d" % number)])
            message = await anext(messages)
            assert isinstance(message, StoreSnapshot)
            assert [one.record.value for one in message.records] == [b"%d" % MAX_PENDING]
            await store.put([record("2")])
            assert isinstance(await anext(messages), StorePatch)

    @bounded
    async def test_a_closed_watch_is_forgotten(self, name: str) -> None:
        async with opened(name) as (store, _):
            for _ in range(3):
                messages = store.watch(HERE)
                await anext(messages)
                await messages.aclose()  # type: ignore[attr-defined]
            assert store.space._feeds == {}

    @bounded
    async def test_names_that_come_and_go_leave_nothing(self, name: str) -> None:
        async with opened(name) as (store, _):
            for number in range(20):
                await store.put([Record(("deep", f"{number}", "x"), "1", b"")])
                await store.delete([RecordKey(("deep", f"{number}", "x"), "1")])
            assert store.space._places.below(()) == []

    @bounded
    async def test_a_known_revision_outlives_changes_elsewhere(self, name: str) -> None:
        async with opened(name) as (store, _):
            await store.put([record()])
            known = (await store.read(HERE)).revision  # type: ignore[union-attr]
            await store.put([Record(("b",), "1", b""), Record(("a", "b"), "1", b"")])
            assert await store.read(HERE, known) is None
            assert await store.read(Bucket(("a",), deep=True), known) is not None

    def test_stores_live_on_several_loops(self, name: str) -> None:
        seen: list[bytes] = []
        watching = threading.Event()

        @bounded
        async def watch() -> None:
            async with opened(name, count=1) as (store,):
                async for message in store.watch(HERE):
                    watching.set()
                    seen.extend(one.record.value for one in getattr(message, "changed", ()))
                    if b"99" in seen:
                        return

        @bounded
        async def write() -> None:
            async with opened(name, count=1) as (store,):
                for number in range(100):
                    await store.put([record(value=b"%d" % number)])
                await eventually_async(lambda: b"99" in seen)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        assert watching.wait(5)
        write()
        thread.join(5)
        assert seen == [b"%d" % number for number in range(100)]


class TestManualClock:
    @bounded
    async def test_a_sleeper_wakes_when_it_is_due(self, clock: ManualClock) -> None:
        sleeper = asyncio.create_task(clock.sleep(2))
        await eventually_async(lambda: clock.sleepers == 1)
        clock.advance(1.9)
        await asyncio.sleep(0)
        assert not sleeper.done()
        clock.advance(0.1)
        await sleeper
        assert clock.sleepers == 0

    @bounded
    async def test_sleepers_wake_in_order(self, clock: ManualClock) -> None:
        order: list[float] = []

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            order.append(seconds)

        async with asyncio.TaskGroup() as group:
            for seconds in (3, 1, 2):
                group.create_task(sleep(seconds))
            await eventually_async(lambda: clock.sleepers == 3)
            clock.advance(10)
        assert order == [1, 2, 3]

    @bounded
    async def test_a_cancelled_sleep_is_forgotten(self, clock: ManualClock) -> None:
        sleeper = asyncio.create_task(clock.sleep(2))
        await eventually_async(lambda: clock.sleepers == 1)
        sleeper.cancel()
        await asyncio.wait((sleeper,))
        assert clock.sleepers == 0

    @bounded
    async def test_no_time_is_no_sleep(self, clock: ManualClock) -> None:
        await clock.sleep(0)
        await clock.sleep(-1)

    def test_all_kinds_of_time_move_together(self, clock: ManualClock) -> None:
        before = clock.monotonic(), clock.boot(), clock.wall_ms()
        for _ in range(10):
            clock.advance(0.1)
        assert clock.monotonic() == before[0] + 1
        assert clock.boot() == before[1] + 1
        assert clock.wall_ms() == before[2] + 1000
        with pytest.raises(ValueError, match="go back"):
            clock.advance(-1)

    def test_another_thread_wakes_a_sleeper(self, clock: ManualClock) -> None:
        thread = threading.Thread(target=lambda: asyncio.run(clock.sleep(5)), daemon=True)
        thread.start()
        eventually(lambda: clock.sleepers == 1)
        clock.advance(5)
        thread.join(5)
        assert not thread.is_alive()

    def test_a_loop_that_was_closed_is_no_trouble(self, clock: ManualClock) -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it says that the task was left pending
        sleeper = loop.create_task(clock.sleep(1))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        clock.advance(5)
        assert clock.sleepers == 0
        assert not sleeper.done()
