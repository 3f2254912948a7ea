"""Time, injected wherever time matters, so that tests can hold it still."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Three kinds of time. Seconds, except where the name says otherwise."""

    def monotonic(self) -> float:
        """Seconds since some moment, never going back; for time-outs and ages."""
        ...

    def boot(self) -> float:
        """Seconds since the machine started, suspension included, the same in all its processes."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970; for what people and other machines read, never for a time-out."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def boot(self) -> float:
        boot_time = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)
