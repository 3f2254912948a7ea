"""A clock whose wall time jumps, as when an administrator or a time server sets it."""

from __future__ import annotations

from sofa_registry_adapters.spi.clock import SystemClock


class JumpingClock(SystemClock):
    """The machine's clocks; the wall clock is off by what `jump` added up to. For ``Registry(…, clock=…)``. Any thread."""

    def __init__(self) -> None:
        self.ahead: float = 0.0
        """Seconds by which the wall clock is ahead of the machine's."""

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.ahead += seconds

    def wall_ms(self) -> int:
        return super().wall_ms() + round(self.ahead * 1000)
