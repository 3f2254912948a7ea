"""Following one thing in the registry or the config center: by a watch or by polling, opened again after each cut, for ever."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from sofa_registry_adapters.engine.defects import defect
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.mailbox import Pending
from sofa_registry_adapters.engine.reactor import bounded, closing, stop_tasks
from sofa_registry_adapters.engine.retry import REACHABILITY
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.spi.clock import Clock

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
        self.known: asyncio.Event = asyncio.Event()
        """Set once there is something to show."""
        self.failed: asyncio.Event = asyncio.Event()
        self.error: BaseException | None = None
        self.proven: Callable[[], float] = clock.monotonic
        self.starting: asyncio.Task[None] | None = None
        self.mailboxes: list[Any] = []
        self._times = pace
        self._clock = clock
        self._push = push
        self._live = False
        self._stream: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

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

    async def stop(self) -> None:
        """Follow no more."""
        await stop_tasks(self.starting)
        await stop_tasks(*self._tasks, self._stream)

    def cut(self) -> None:
        """The connection is in doubt: open the watch again."""
        if self._live and self._stream is not None:
            self._stream.cancel()

    async def _follow(self) -> None:
        failures = 0
        while True:
            self._live = False
            self._stream = asyncio.create_task(self._watch() if self._push else self._poll())
            try:
                await asyncio.wait((self._stream,))
            finally:
                await stop_tasks(self._stream)
            if self._live:
                # What was shown until now was in step as long as the backend was known to be there.
                failures = 0
                self._confirm_until(self.proven())
            failures += 1
            self._live = False
            self._note_failure(self._stream, failures)
            await self._clock.sleep(REACHABILITY.delay(failures))

    def _note_failure(self, stream: asyncio.Task[None], failures: int) -> None:
        error = Unavailable("the watch was cut") if stream.cancelled() else stream.exception()
        if error is not None and not isinstance(error, RegistryError):
            error = defect("the backend", f"reading {self.about}", error)
        self.error = error or Unavailable("the watch ended")
        self.failed.set()
        # A watch that comes back at the first attempt was never out of step for long enough to say so.
        if failures > 1 and self.known.is_set():
            self._flag(stale=True)

    async def _watch(self) -> None:
        async with closing(self._updates()) as updates:
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
