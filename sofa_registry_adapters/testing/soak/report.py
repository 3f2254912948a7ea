"""The result of a soak."""

from __future__ import annotations

import statistics

import msgspec

from sofa_registry_adapters.testing.soak.bounds import Bounds
from sofa_registry_adapters.testing.soak.judging import Violation
from sofa_registry_adapters.testing.soak.plan import Shape
from sofa_registry_adapters.testing.soak.resources import Trend


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, what was looked at, how often, and what did not hold.

    ``looked``: checks by invariant. ``calls`` and ``failed``: verbs, and those of them that raised, as they may while something is
    broken. ``settled``: seconds from the end of a round's faults until all was as it should be. ``longest_overrun``: seconds
    that the slowest call took beyond its time-out.
    """

    backend: str
    seed: int
    seconds: float
    rounds: int
    passed: bool
    violated: int
    violations: list[Violation]
    looked: dict[str, int]
    calls: dict[str, int]
    failed: dict[str, int]
    longest_overrun: float
    settled: dict[str, float]
    bounds: Bounds
    trends: dict[str, Trend]
    shape: Shape

    def json(self) -> bytes:
        """The result as it is written to a file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def summary(self) -> str:
        """The result in a line."""
        verdict = "held" if self.passed else f"{self.violated} violations"
        settled = ", ".join(f"{name} {value:.2f} s" for name, value in self.settled.items())
        calls, checks = sum(self.calls.values()), sum(self.looked.values())
        return (
            f"{self.backend} seed {self.seed}: {verdict}; {self.rounds} rounds in {self.seconds:.0f} s, "
            f"{calls} calls, {checks} checks; settled: {settled}"
        )


class Settling:
    """How long it took to settle, round by round."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def add(self, seconds: float) -> None:
        """One round."""
        self._seconds.append(seconds)

    def figures(self) -> dict[str, float]:
        """The median and the longest, in seconds."""
        if not self._seconds:
            return {}
        return {"median": round(statistics.median(self._seconds), 3), "longest": round(max(self._seconds), 3)}
