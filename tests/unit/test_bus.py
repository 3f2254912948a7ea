"""The bus of events: each one in order, a slow listener loses the oldest and they are counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mailbox_place import SERVICE

from sofa_registry_adapters.engine import mailbox as module
from sofa_registry_adapters.engine.mailbox import EVENTS_KEPT, Events, ThreadCourier, check_listener
from sofa_registry_adapters.errors import Closed, InvalidArgument
from sofa_registry_adapters.events import Event, ListenerFailed, Published, Withdrawn
from sofa_registry_adapters.testing.faults import eventually


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
