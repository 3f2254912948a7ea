"""Delivery: the latest state, one call at a time; a bad listener harms nobody, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sofa_registry_adapters import Instance, InstancesChange, ServiceKey
from sofa_registry_adapters.engine import mailbox as module
from sofa_registry_adapters.engine.mailbox import (
    EVENTS_KEPT,
    AsyncInbox,
    BlockingInbox,
    Events,
    Listener,
    LoopCourier,
    Mailbox,
    ThreadCourier,
    check_listener,
)
from sofa_registry_adapters.errors import Closed, DeadlineExceeded, InvalidArgument
from sofa_registry_adapters.events import Event, ListenerFailed, Published, Withdrawn
from sofa_registry_adapters.model.views import Delta, Source
from sofa_registry_adapters.testing.faults import eventually, eventually_async

SERVICE = ServiceKey("a")


def one(name: str, weight: int = 100) -> Instance:
    return Instance(host="h", port=1, instance_id=name, weight=weight)


class Place:
    """A source with one mailbox, changed as the mirror changes it."""

    def __init__(self, *ids: str, known: bool = True) -> None:
        self.source = Source(SERVICE)
        self.source.instances = {name: one(name) for name in ids}
        self.forgotten = 0
        self.mailbox = Mailbox(self.source, self._forget, known=known)

    def _forget(self, mailbox: Mailbox) -> None:
        assert mailbox is self.mailbox
        self.forgotten += 1

    def change(self, name: str, weight: int | None = 100, *, flags: bool = False, nudge: bool = True) -> None:
        with self.source.locked():
            self.source.retire()
            delta = Delta()
            after = None if weight is None else one(name, weight)
            delta.add(name, self.source.instances.pop(name, None), after)
            if after is not None:
                self.source.instances[name] = after
            self.mailbox.put_locked(delta, flags=flags)
        if nudge:
            self.mailbox.nudge()

    def flag(self, *, stale: bool) -> None:
        with self.source.locked():
            self.source.retire()
            self.source.stale = stale
            self.mailbox.put_locked(Delta(), flags=True)
        self.mailbox.nudge()


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


class Spy(threading.Event):
    """An event that lets a test act at one moment inside `next`."""

    def __init__(self) -> None:
        super().__init__()
        self.before_clear: Callable[[], None] | None = None

    def clear(self) -> None:
        act, self.before_clear = self.before_clear, None
        if act is not None:
            act()
        super().clear()


def within(seconds: float, work: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert answers, "it waits for ever"
    return answers[0]


class TestInboxes:
    def test_next_waits_for_a_change(self) -> None:
        place = Place("a")
        inbox = BlockingInbox(place.mailbox)
        assert len(inbox.next(1).instances) == 1  # type: ignore[union-attr]
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            inbox.next(0.01)
        threading.Timer(0.05, place.change, ("b",)).start()
        assert within(5, inbox.next).added == (one("b"),)

    def test_a_close_ends_the_wait_of_every_thread(self) -> None:
        place = Place("a")
        inbox = BlockingInbox(place.mailbox)
        inbox.next(1)
        answers: list[object] = []
        threads = [threading.Thread(target=lambda: answers.append(inbox.next()), daemon=True) for _ in range(5)]
        for thread in threads:
            thread.start()
        inbox.close()
        for thread in threads:
            thread.join(5)
        assert answers == [None] * 5

    def test_the_engines_close_ends_the_wait(self) -> None:
        place = Place("a")
        inbox = BlockingInbox(place.mailbox)
        inbox.next(1)
        threading.Timer(0.05, place.mailbox.close).start()
        assert within(5, inbox.next) is None

    @pytest.mark.parametrize("engine", (True, False))
    def test_a_close_between_the_look_and_the_clear_ends_the_wait(self, engine: bool) -> None:
        place = Place("a")
        inbox = BlockingInbox(place.mailbox)
        inbox._ready = spy = Spy()
        place.mailbox.on_news(spy.set)
        inbox.next(1)
        spy.before_clear = place.mailbox.close if engine else inbox.close
        assert within(2, inbox.next) is None

    @pytest.mark.parametrize("engine", (True, False))
    def test_a_close_while_awake_ends_the_wait(self, engine: bool) -> None:
        place = Place("a")
        inbox = BlockingInbox(place.mailbox)
        inbox.next(1)
        place.change("b")
        inbox._ready = spy = Spy()
        spy.before_clear = place.mailbox.close if engine else inbox.close
        assert within(2, inbox.next) is None

    def test_closing_races_with_waiting_many_times(self) -> None:
        for _ in range(300):
            place = Place("a")
            inbox = BlockingInbox(place.mailbox)
            waiting = threading.Thread(target=lambda inbox=inbox: [*iter(inbox.next, None)], daemon=True)
            waiting.start()
            place.change("b")
            place.mailbox.close()
            waiting.join(5)
            assert not waiting.is_alive()

    def test_an_async_inbox(self) -> None:
        async def main() -> None:
            place = Place("a")
            inbox = AsyncInbox(place.mailbox, asyncio.get_running_loop())
            async with asyncio.timeout(10):
                assert len((await inbox.next()).instances) == 1  # type: ignore[union-attr]
                threading.Timer(0.02, place.change, ("b",)).start()
                assert (await inbox.next()).added == (one("b"),)  # type: ignore[union-attr]
                threading.Timer(0.02, place.mailbox.close).start()
                assert await inbox.next() is None
                assert await inbox.next() is None

        asyncio.run(main())

    def test_an_async_inbox_that_is_closed_by_the_engine_while_awake(self) -> None:
        async def main() -> None:
            place = Place("a")
            inbox = AsyncInbox(place.mailbox, asyncio.get_running_loop())
            await inbox.next()
            place.change("b")
            take = place.mailbox.take

            def close_then_take() -> InstancesChange | None:
                place.mailbox.close()
                return take()

            place.mailbox.take = close_then_take  # type: ignore[method-assign]
            async with asyncio.timeout(2):
                assert await inbox.next() is None

        asyncio.run(main())

    def test_an_async_inbox_of_a_closed_loop_is_dropped(self) -> None:
        place = Place("a")

        async def main() -> None:
            await AsyncInbox(place.mailbox, asyncio.get_running_loop()).next()

        asyncio.run(main())
        place.change("b")
        place.mailbox.close()
        assert place.mailbox.closed
        assert place.forgotten == 1


@pytest.fixture
def events() -> Iterator[Events]:
    courier = ThreadCourier()
    yield Events(courier)
    eventually(lambda: courier._pool._threads == 0)


def published(number: int) -> Published:
    return Published(SERVICE, (str(number),))


class TestBus:
    def test_each_event_in_order(self, events: Events) -> None:
        seen: list[Event] = []
        events.on(Published, seen.append)
        everything: list[Event] = []
        events.on(Event, everything.append)
        for number in range(200):
            events.emit(published(number))
        events.emit(Withdrawn(SERVICE, ()))
        eventually(lambda: len(everything) == 201)
        assert seen == [published(number) for number in range(200)] == everything[:-1]

    def test_a_slow_listener_loses_the_oldest_and_they_are_counted(self, events: Events) -> None:
        gate, entered, seen = threading.Event(), threading.Event(), list[Event]()

        def slow(event: Published) -> None:
            entered.set()
            gate.wait(10)
            seen.append(event)

        subscription = events.on(Published, slow)
        quick: list[Event] = []
        events.on(Published, quick.append)
        events.emit(published(0))
        assert entered.wait(5)
        for number in range(1, EVENTS_KEPT + 51):
            events.emit(published(number))
        gate.set()
        eventually(lambda: seen[-1:] == [published(EVENTS_KEPT + 50)])
        assert subscription.dropped == 50
        assert seen == [published(0), *(published(number) for number in range(51, EVENTS_KEPT + 51))]
        eventually(lambda: quick[-1:] == [published(EVENTS_KEPT + 50)])

    def test_what_is_not_wanted_is_not_made(self, events: Events) -> None:
        assert not events.wanted(Published)
        subscription = events.on(Published, print)
        assert events.wanted(Published)
        assert not events.wanted(Withdrawn)
        subscription.close()
        subscription.close()
        assert not events.wanted(Published)

    def test_nothing_comes_after_a_close(self, events: Events) -> None:
        seen: list[Event] = []
        subscription = events.on(Published, seen.append)

        def end(event: Published) -> None:
            subscription.close()

        events.on(Published, end)
        subscription.close()
        subscription.put(published(1))
        events.emit(published(2))
        assert not seen

    @pytest.mark.parametrize("error", (ValueError("bad"), SystemExit(3)))
    def test_a_listener_that_raises_is_told_of(self, events: Events, error: BaseException) -> None:
        told: list[ListenerFailed] = []
        events.on(ListenerFailed, told.append)
        calls: list[Event] = []

        def broken(event: Published) -> None:
            calls.append(event)
            raise error

        events.on(Published, broken)
        events.emit(published(1))
        events.emit(published(2))
        eventually(lambda: len(told) == 2)
        assert len(calls) == 2
        assert "broken" in told[0].listener
        assert type(error).__name__ in told[0].reason

    def test_a_listener_of_failures_that_fails_is_not_told_of_itself(self, events: Events) -> None:
        calls: list[Event] = []

        def broken(event: ListenerFailed) -> None:
            calls.append(event)
            raise ValueError

        events.on(ListenerFailed, broken)
        events.emit(ListenerFailed("x", "y"))
        eventually(lambda: events.courier._pool._threads == 0)  # type: ignore[attr-defined]
        assert len(calls) == 1

    @pytest.mark.parametrize("kind", (int, "Published", None, published(1)))
    def test_events_are_asked_for_by_their_class(self, events: Events, kind: Any) -> None:
        with pytest.raises(InvalidArgument, match="class"):
            events.on(kind, print)

    def test_what_is_not_callable_is_refused(self, events: Events) -> None:
        with pytest.raises(InvalidArgument, match="callable"):
            events.on(Published, 5)  # type: ignore[arg-type]

    def test_a_coroutine_function_needs_a_loop(self, events: Events) -> None:
        async def listen(event: object) -> None: ...

        with pytest.raises(InvalidArgument, match="AsyncRegistry"):
            events.on(Published, listen)
        assert check_listener(listen, asynchronous=True) is listen

    def test_a_courier_that_can_no_more_ends_the_subscription(self) -> None:
        class Gone:
            def carry(self, *_: object) -> None:
                raise Closed("gone")

        events = Events(Gone())
        events.on(Published, print)
        events.emit(published(1))
        assert not events.wanted(Published)


def test_the_bound_is_the_documented_one() -> None:
    assert module.EVENTS_KEPT == 1000
