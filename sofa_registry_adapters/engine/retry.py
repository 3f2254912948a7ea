"""The two retry schedules: for a registry that cannot be reached, and for one that says no."""

from __future__ import annotations

import random

import msgspec


class Schedule(msgspec.Struct, frozen=True):
    """Exponential, with full jitter above half, for ever: there is no last attempt."""

    first: float
    most: float

    def delay(self, attempt: int) -> float:
        """Seconds before the attempt number ``attempt`` + 1, after ``attempt`` >= 1 failures."""
        ceiling = min(self.most, self.first * 2.0 ** min(attempt - 1, 30))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret


REACHABILITY = Schedule(0.05, 1.0)
REFUSAL = Schedule(1.0, 30.0)
CONFLICT = Schedule(0.5, 2.0)
"""A conflict ends when the other publisher goes, and then ours is the only one left: look often."""
