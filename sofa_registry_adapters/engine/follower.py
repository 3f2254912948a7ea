"""Following one thing in the registry or the config center: by a watch or by polling, opened again after each cut, for ever."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from sofa_registry_adapters.engine.defects import defect
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.mailbox import Pending
from sofa_registry_adapters.engine.reactor import Closing, bounded, stop_tasks
from sofa_registry_adapters.engine.retry import REACHABILITY
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.flag import Flag

T = TypeVar("T")
U = TypeVar("U")


class Pace(Protocol):
    """The times that every follower keeps, in seconds."""

    @property
    def call_timeout(self) -> float: ...
    @property
    def reconcile(self) -> float: ...
    @property
    def poll(self) -> float: ...


class Follower(ABC, Generic[T]):
    """A copy, its tasks, and the mailboxes of those who want to know. Lives on the engine's loop.

    ``T`` is what the backend says, message by message; ``about`` is what it speaks of, for messages to people.
    """

    def __init__(self, about: object, pace: Pace, clock: Clock, *, push: bool) -> None:
        self.about = about
        self.known: Flag = Flag()
        """Set once there is something to show."""
        self.failed: Flag = Flag()
        self.error: BaseException | None = None
        self.proven: Callable[[], float] = clock.monotonic
        self.starting: asyncio.Task[None] | None = None
        self.mailboxes: list[Any] = []
        self._times = pace
        self._clock = clock
        self._push = push
        self._live = False
        self._cuts = 0
        self._tasks: list[asyncio.Task[None]] = []
        """The first of them is the one that follows."""

    @abstractmethod
    def open_mailbox(self, forget: Callable[[Any], None]) -> Pending[Any]:
        """A mailbox for one more who wants to know; it begins with what is known."""

    @abstractmethod
    def _updates(self) -> AsyncIterator[T]:
        """The backend's watch."""

    @abstractmethod
    def _apply(self, update: T) -> None:
        """Bring the copy in step with a message."""

    @abstractmethod
    async def _look(self) -> None:
        """Read once, and apply what was found. Sets ``_live`` when there is an answer."""

    @abstractmethod
    def _flag(self, *, stale: bool) -> None:
        """The copy is in step, or can be no more."""

    @abstractmethod
    def _confirm_until(self, moment: float) -> None:
        """The copy was in step up to this moment of the clock."""

    def _works(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What runs while it is followed."""
        return (self._follow,)

    def start(self) -> None:
        """Begin to follow."""
        self._tasks += [asyncio.create_task(work()) for work in self._works()]

    def ending(self) -> Iterator[asyncio.Task[None] | None]:
        """What is to be stopped, so that it is followed no more."""
        yield self.starting
        yield from self._tasks

    async def stop(self) -> None:
        """Follow no more."""
        await stop_all(self.ending)

    def cut(self) -> None:
        """The connection is in doubt: open the watch again."""
        if self._live and self._tasks:
            self._cuts += self._tasks[0].cancel()

    async def _follow(self) -> None:
        failures = 0
        while True:
            self._live = False
            error = await self._attempt()
            if self._live:
                # What was shown until now was in step as long as the backend was known to be there.
                failures = 0
                self._confirm_until(self.proven())
            failures += 1
            self._live = False
            self._note_failure(error, failures)
            await self._clock.sleep(REACHABILITY.delay(failures))

    async def _attempt(self) -> BaseException:
        """Follow until something ends that; what it was."""
        # Not in a task of its own, of which there may be thousands: this one is cut, and goes on.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  coroutines of asyncio run in tasks
        try:
            await (self._watch() if self._push else self._poll())
            ended: BaseException = Unavailable("the watch ended")
        except asyncio.CancelledError:
            ended = Unavailable("the watch was cut")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  whatever it is, following goes on
            ended = error
        while self._cuts:
            self._cuts -= 1
            task.uncancel()
        if task.cancelling():
            # Somebody wants the end, whatever the watch made of that.
            raise asyncio.CancelledError
        return ended

    def _note_failure(self, error: BaseException, failures: int) -> None:
        if not isinstance(error, RegistryError):
            error = defect("the backend", f"reading {self.about}", error)
        self.error = error
        self.failed.set()
        # A watch that comes back at the first attempt was never out of step for long enough to say so.
        if failures > 1 and self.known.is_set():
            self._flag(stale=True)

    async def _watch(self) -> None:
        async with Closing(self._updates()) as updates:
            update = await self._bounded(anext(updates))
            while True:
                self._live = True
                self._apply(update)
                update = await anext(updates)

    async def _poll(self) -> None:
        while True:
            await self._look()
            await self._clock.sleep(self._times.poll)

    async def _bounded(self, answer: Awaitable[U]) -> U:
        async with bounded(self._times.call_timeout, f"reading {self.about}"):
            return await answer

    def _doubt(self, error: Exception) -> None:
        if not isinstance(error, RegistryError):
            logger.error("reading %s failed in a way that is a defect", self.about, exc_info=error)

    def _nudge(self) -> None:
        for mailbox in tuple(self.mailboxes):
            mailbox.nudge()


async def stop_all(ending: Callable[[], Iterable[asyncio.Task[Any] | None]]) -> None:
    """Stop what is there, and what it began meanwhile."""
    while left := [task for task in ending() if task is not None and not task.done()]:
        await stop_tasks(*left)
