"""Waiting for news: no wake-up is lost, and a close ends every wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mailbox_place import Place, one

from sofa_registry_adapters import InstancesChange
from sofa_registry_adapters.engine.mailbox import AsyncInbox, BlockingInbox
from sofa_registry_adapters.errors import DeadlineExceeded


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
