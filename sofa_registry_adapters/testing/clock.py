"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading

_SECOND = 1_000_000_000
_START = 1_000 * _SECOND
_START_WALL_MS = 1_700_000_000_000


class ManualClock:
    """A `Clock` that stands still until `advance`. Safe to use from any thread and several event loops.

    A jump wakes each sleeper that is due, once, at the new time: nobody sees the moments in between.
    """

    def __init__(self) -> None:
        # Whole nanoseconds: a hundred steps of 0.01 s are one second.
        self._now = _START
        self._lock = threading.Lock()
        self._tickets = itertools.count()
        self._sleepers: dict[int, tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = {}

    def monotonic(self) -> float:
        return self._now / _SECOND

    def boot(self) -> float:
        return self._now / _SECOND

    def wall_ms(self) -> int:
        return _START_WALL_MS + (self._now - _START) // 1_000_000

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        with self._lock:
            ticket = next(self._tickets)
            self._sleepers[ticket] = self._now + _nanoseconds(seconds), asyncio.get_running_loop(), woken
        try:
            await woken.wait()
        finally:
            with self._lock:
                self._sleepers.pop(ticket, None)

    def advance(self, seconds: float) -> None:
        """Move the time forward and wake the sleepers that are due, earliest first, each on its own loop.

        Returns at once: wait for what the sleepers do. Raises ValueError for a step back.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds!r}")
        with self._lock:
            self._now += _nanoseconds(seconds)
            due = sorted((until, ticket) for ticket, (until, _, _) in self._sleepers.items() if until <= self._now)
            woken = [self._sleepers.pop(ticket) for _, ticket in due]
        for _, loop, event in woken:
            # The loop may be closed by now: then nobody sleeps on it any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    @property
    def sleepers(self) -> int:
        """How many sleep now; a sleep that begins after `advance` has all of its time before it."""
        with self._lock:
            return len(self._sleepers)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _SECOND)
