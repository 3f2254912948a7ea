"""Delivery: the latest state, one call at a time; a bad listener harms nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mailbox_place import SERVICE, Place, one

from sofa_registry_adapters import Instance, InstancesChange
from sofa_registry_adapters.engine.mailbox import Events, Listener, LoopCourier, ThreadCourier
from sofa_registry_adapters.events import Published
from sofa_registry_adapters.testing.faults import eventually, eventually_async


@pytest.fixture
def failures() -> list[tuple[Listener, BaseException]]:
    return []


@pytest.fixture
def failed(failures: list[tuple[Listener, BaseException]]) -> Callable[[Listener, BaseException], None]:
    return lambda listener, error: failures.append((listener, error))


class TestMailbox:
    def test_changes_are_folded_into_one(self) -> None:
        place = Place("a", "b")
        first = place.mailbox.take()
        assert first is not None
        assert {item.instance_id for item in first.added} == {"a", "b"}
        place.change("c")
        place.change("a", 5)
        place.change("b", None)
        place.change("c", 7)
        change = place.mailbox.take()
        assert change is not None
        assert (change.added, change.removed, change.updated) == ((one("c", 7),), (one("b"),), (one("a", 5),))
        assert list(change.instances) == [one("a", 5), one("c", 7)]
        assert place.mailbox.take() is None

    def test_there_and_back_is_told_as_an_empty_change_at_most(self) -> None:
        place = Place("a")
        place.mailbox.take()
        place.change("a", None)
        place.change("a")
        change = place.mailbox.take()
        assert change is None or (change.added, change.removed, change.updated) == ((), (), ())

    def test_a_flag_alone_is_news(self) -> None:
        place = Place("a")
        place.mailbox.take()
        place.flag(stale=True)
        change = place.mailbox.take()
        assert change is not None
        assert change.stale

    def test_an_unknown_service_has_no_news_yet(self) -> None:
        assert Place(known=False).mailbox.take() is None

    def test_it_is_forgotten_once(self) -> None:
        place = Place("a")
        place.mailbox.close()
        place.mailbox.close()
        assert place.forgotten == 1
        place.change("b")
        assert place.mailbox.take() is None


class TestThreads:
    def test_one_call_at_a_time_the_latest_state_only(self, failed: Any) -> None:
        place, seen, inside = Place(), [], threading.Lock()
        gate, entered = threading.Event(), threading.Event()

        def listener(change: InstancesChange) -> None:
            assert inside.acquire(blocking=False), "two calls at a time"
            seen.append([item.instance_id for item in change.instances])
            entered.set()
            gate.wait(10)
            inside.release()

        place.mailbox.deliver(ThreadCourier(), listener, failed)
        assert entered.wait(5)
        for number in range(100):
            place.change(str(number))
        gate.set()
        eventually(lambda: len(seen) >= 2 and len(seen[-1]) == 100)
        assert len(seen) == 2

    def test_a_replica_made_of_changes_equals_the_view(self, failed: Any) -> None:
        place, replica, last = Place("x"), dict[str, Instance](), threading.Event()

        def listener(change: InstancesChange) -> None:
            for item in change.removed:
                del replica[item.instance_id]
            for item in change.added:
                assert item.instance_id not in replica
                replica[item.instance_id] = item
            for item in change.updated:
                replica[item.instance_id] = item
            assert replica == {item.instance_id: item for item in change.instances}
            if "end" in replica:
                last.set()

        place.mailbox.deliver(ThreadCourier(), listener, failed)
        for number in range(2000):
            place.change(str(number % 7), None if number % 3 == 0 else number)
        place.change("end")
        assert last.wait(10)

    @pytest.mark.parametrize(
        "error", (ValueError("x"), SystemExit(), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit())
    )
    def test_a_listener_that_raises_is_reported_and_called_again(
        self, error: BaseException, failed: Any, failures: list[tuple[Listener, BaseException]]
    ) -> None:
        place, courier, seen = Place("a"), ThreadCourier(), list[int]()

        def listener(change: InstancesChange) -> None:
            seen.append(len(change.instances))
            raise error

        place.mailbox.deliver(courier, listener, failed)
        eventually(lambda: len(failures) == 1)
        place.change("b")
        eventually(lambda: len(failures) == 2)
        assert seen == [1, 2]
        assert failures[0] == (listener, error)
        eventually(lambda: courier._pool._threads == 0)

    def test_failing_listeners_do_not_use_up_the_pool(self, failed: Any) -> None:
        courier, seen = ThreadCourier(), list[int]()

        def leave(change: InstancesChange) -> None:
            raise SystemExit

        for _ in range(100):
            Place("a").mailbox.deliver(courier, leave, failed)
        Place("a").mailbox.deliver(courier, lambda _: seen.append(1), failed)
        eventually(lambda: seen == [1])

    def test_a_listener_that_ends_itself_is_not_called_again(self, failed: Any) -> None:
        place, seen = Place("a"), list[int]()

        def listener(change: InstancesChange) -> None:
            seen.append(len(change.instances))
            place.change("b")
            place.mailbox.close()
            place.change("c")

        courier = ThreadCourier()
        place.mailbox.deliver(courier, listener, failed)
        eventually(lambda: place.forgotten == 1 and courier._pool._threads == 0)
        assert seen == [1]

    def test_a_slow_listener_holds_up_nobody(self, failed: Any) -> None:
        courier, gate, seen = ThreadCourier(), threading.Event(), list[int]()
        slow, quick = Place("a"), Place("a")
        slow.mailbox.deliver(courier, lambda _: gate.wait(10), failed)
        quick.mailbox.deliver(courier, lambda change: seen.append(len(change.instances)), failed)
        eventually(lambda: seen == [1])
        quick.change("b")
        eventually(lambda: seen == [1, 2])
        gate.set()

    def test_threads_that_cannot_be_started_lose_no_change(self, failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        place, courier, seen = Place("a"), ThreadCourier(), list[int]()
        start = threading.Thread.start
        refuse = [True]

        def limited(thread: threading.Thread) -> None:
            if refuse[0] and thread.name == "sofa-registry-listener":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)
        place.mailbox.deliver(courier, lambda change: seen.append(len(change.instances)), failed)
        refuse[0] = False
        place.change("b")
        eventually(lambda: seen[-1:] == [2], 1)


class TestLoops:
    def test_plain_and_async_listeners_run_on_the_loop(self, failed: Any) -> None:
        async def main() -> None:
            place, other, seen = Place("a"), Place("a", "b"), list[object]()

            async def listen(change: InstancesChange) -> None:
                await asyncio.sleep(0)
                seen.append((len(change.instances), asyncio.get_running_loop() is loop))

            loop = asyncio.get_running_loop()
            place.mailbox.deliver(LoopCourier(), listen, failed)
            other.mailbox.deliver(LoopCourier(), lambda _: seen.append(threading.current_thread()), failed)
            await eventually_async(lambda: len(seen) == 2)
            assert (1, True) in seen
            assert threading.current_thread() in seen

        asyncio.run(main())

    @pytest.mark.parametrize("asynchronous", (True, False))
    def test_a_cancellation_from_inside_a_listener_is_its_failure(
        self, asynchronous: bool, failed: Any, failures: list[tuple[Listener, BaseException]]
    ) -> None:
        async def main() -> None:
            place, seen = Place("a"), list[int]()

            async def listen(change: InstancesChange) -> None:
                seen.append(len(change.instances))
                other = asyncio.create_task(asyncio.sleep(10))
                await asyncio.sleep(0)
                other.cancel()
                await other

            def listen_plainly(change: InstancesChange) -> None:
                seen.append(len(change.instances))
                raise asyncio.CancelledError

            place.mailbox.deliver(LoopCourier(), listen if asynchronous else listen_plainly, failed)
            await eventually_async(lambda: len(failures) == 1)
            place.change("b")
            await eventually_async(lambda: len(failures) == 2)
            assert seen == [1, 2]

        asyncio.run(main())

    def test_a_closed_loop_drops_its_listener_without_a_word(
        self, failed: Any, failures: list[object], caplog: pytest.LogCaptureFixture
    ) -> None:
        place, seen = Place("a"), list[int]()

        async def main() -> None:
            place.mailbox.deliver(LoopCourier(), lambda _: seen.append(1), failed)
            await eventually_async(lambda: seen)

        asyncio.run(main())
        place.change("b")
        assert place.mailbox.closed
        assert place.forgotten == 1
        assert not failures
        assert not caplog.records

    def test_a_closed_loop_drops_its_event_listener(self) -> None:
        async def main() -> Events:
            events = Events(LoopCourier(), asynchronous=True)
            events.on(Published, print)
            return events

        events = asyncio.run(main())
        assert events.wanted(Published)
        events.emit(Published(SERVICE, ()))
        assert not events.wanted(Published)
