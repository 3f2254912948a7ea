"""One task follows a service: it is cut and goes on, and is stopped by whoever has the right to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest
from mirror_glass import SERVICE, Glass, Pace, Scripted, on_glass, snapshot

from sofa_registry_adapters import ServiceKey
from sofa_registry_adapters.engine.followers import Followers
from sofa_registry_adapters.engine.lifeline import Lifeline
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.mailbox import Events, ThreadCourier
from sofa_registry_adapters.engine.mirror import Mirror
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.registry import Patch, Snapshot
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import eventually_async


def follower(glass: Glass) -> asyncio.Task[None]:
    return glass.mirror._tasks[0]


@on_glass
async def test_several_cuts_are_one_and_the_next_one_is_another(glass: Glass) -> None:
    await glass.feed(snapshot("a", 1))
    for number in range(2, 6):
        glass.backend.opening = [snapshot("ab", number)]
        for _ in range(3):
            glass.mirror.cut()
        await glass.pass_by(1, 0.05)
        assert len(glass.backend.feeds) == number
        assert glass.backend.closed == number - 1
        assert follower(glass).cancelling() == 0
    assert glass.ids() == "ab"
    assert not glass.mirror.view().stale


@on_glass
async def test_a_watch_that_is_not_yet_there_is_not_cut(glass: Glass) -> None:
    glass.mirror.cut()
    await glass.feed(snapshot("a", 1))
    assert len(glass.backend.feeds) == 1
    assert glass.ids() == "a"


def test_who_is_stopped_while_it_is_cut_stops() -> None:
    async def main() -> None:
        async with asyncio.timeout(5), Glass() as glass:
            await glass.feed(snapshot("a", 1))
            glass.mirror.cut()
        assert follower(glass).done()

    asyncio.run(main())


def test_the_end_of_the_loop_is_the_end_of_it() -> None:
    """Whoever cancels all tasks of a loop knows nothing of mirrors."""

    async def main() -> asyncio.Task[None]:
        glass = await Glass().__aenter__()
        await glass.feed(snapshot("a", 1))
        glass.mirror.cut()
        await glass.pass_by(1, 0.05)
        return follower(glass)

    assert asyncio.run(main()).cancelled()


class Stubborn(Scripted):
    """A registry whose client library swallows a cancellation, or ends a watch with one of its own."""

    def __init__(self, ending: BaseException) -> None:
        super().__init__()
        self.swallowed = 0
        self.ending = ending

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        messages = super().watch(service)
        if not self.feeds:
            yield await anext(messages)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.swallowed += 1
            yield snapshot("ab", 2)
            raise self.ending
        async for message in messages:
            yield message


@pytest.mark.parametrize("ending", (asyncio.CancelledError(), Unavailable("gone")), ids=("cancelled", "gone"))
def test_a_cut_that_is_swallowed_harms_no_later_one(ending: BaseException) -> None:
    async def main() -> None:
        backend = Stubborn(ending)
        async with asyncio.timeout(20):
            glass = Glass(backend=backend)
            glass.backend = backend
            glass.mirror.start()
            await glass.calm()
            await glass.feed(snapshot("a", 1))
            glass.mirror.cut()
            await glass.calm()
            assert (backend.swallowed, glass.ids()) == (1, "ab")
            # The watch has ended by itself, perhaps with a cancellation that nobody asked for.
            backend.opening = [snapshot("abc", 3)]
            await glass.pass_by(1, 0.05)
            assert glass.ids() == "abc"
            glass.mirror.cut()
            backend.opening = [snapshot("abcd", 4)]
            await glass.pass_by(1, 0.05)
            assert glass.ids() == "abcd"
            assert follower(glass).cancelling() == 0
            await glass.mirror.stop()
            assert follower(glass).done()

    asyncio.run(main())


class Goodbye(Scripted):
    """A registry that is said goodbye to at the end of each watch."""

    def __init__(self, goodbye: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.goodbye = goodbye

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        try:
            async for message in super().watch(service):
                yield message
        finally:
            await self.goodbye()


async def slowly() -> None:
    await asyncio.sleep(0.3)


async def in_vain() -> None:
    raise OSError("the goodbye could not be sent")


@pytest.mark.parametrize("goodbye", (slowly, in_vain))
@pytest.mark.parametrize("cut", (False, True), ids=("as it is", "cut"))
def test_a_stop_during_a_goodbye_is_a_stop(goodbye: Callable[[], Awaitable[None]], cut: bool) -> None:
    async def main() -> None:
        backend = Goodbye(goodbye)
        async with asyncio.timeout(10):
            # Time passes: who takes the stop for something else opens the watch again.
            glass = Glass(backend=backend, clock=cast("ManualClock", SystemClock()))
            glass.backend = backend
            backend.opening = [snapshot("abcd", 1), snapshot("", 2)]
            glass.mirror.start()
            await glass.calm()
            if cut:
                glass.mirror.cut()
                await glass.calm()
            await glass.mirror.stop()
        assert len(backend.feeds) == 1
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_who_leaves_while_the_watch_is_cut_leaves_nothing_behind() -> None:
    """The last listener goes, and the Registry closes, before the goodbye is over."""

    async def main() -> None:
        backend, clock = Goodbye(slowly), ManualClock()
        link = Link("scripted://", clock, lambda _: None)
        lifeline = Lifeline(backend, "scripted://", 5.0, clock, link)
        lifeline.ready.set()
        bus = Events(ThreadCourier())
        mirrors = Followers(lifeline, lambda key: Mirror(key, backend, Pace(), clock, bus), None)
        async with asyncio.timeout(10):
            backend.opening = [snapshot("abcd", 1)]
            mailbox = await mirrors.attach(SERVICE, 5, required=True)
            mirrors.cut()
            await asyncio.sleep(0.02)
            mailbox.close()
            await eventually_async(lambda: mirrors.find(SERVICE) is None)
            mirrors.close_mailboxes()
            await mirrors.stop()
        assert len(backend.feeds) == 1
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


class Panic(BaseException):
    """What some extensions raise, which is no Exception."""


@on_glass
async def test_an_extension_that_panics_does_not_end_it(glass: Glass) -> None:
    await glass.feed(snapshot("a", 1))
    glass.backend.opening = [snapshot("ab", 2)]
    await glass.feed(cast("Exception", Panic("rust")))
    await glass.pass_by(1, 0.05)
    assert glass.ids() == "ab"
