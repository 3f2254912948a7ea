"""Rounds of several sides that alternate, so that what else the machine does hits all of them alike.

A *side* is one way to do the same thing: ours, the raw client's, a peer's. A *round* of a side does it a few times and gives the seconds
that each time took. The first round of each side warms up and is thrown away. In the next ones the order of the sides rotates.
Two sides are compared round by round: the figure is the median of the ratios of the rounds, never the ratio of two totals.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

ROUNDS = 7
"""Rounds of each side."""

Clock = Callable[[], float]
Side = Callable[[], Sequence[float]]
"""One round: the seconds that each operation took."""


class Batches(list[float]):
    """Means of batches, of so many operations in all."""

    def __init__(self, means: Iterable[float], operations: int) -> None:
        super().__init__(means)
        self.operations = operations


class Round(NamedTuple):
    """What one round of one side took: seconds of each operation, and seconds of CPU of this process for one."""

    wall: Sequence[float]
    cpu: float


class Figures(msgspec.Struct, omit_defaults=True):
    """A side over all rounds: microseconds of one operation."""

    p50: float
    p99: float
    cpu: float | None = None
    samples: int = 0
    bytes: float | None = None


Rounds = Mapping[str, Sequence[Round]]


def alternate(sides: Mapping[str, Side], rounds: int = ROUNDS) -> dict[str, list[Round]]:
    """Play the rounds of all sides."""
    names = list(sides)
    found: dict[str, list[Round]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            cpu = time.process_time()
            wall = sides[name]()
            cpu = time.process_time() - cpu
            if number:
                operations = wall.operations if isinstance(wall, Batches) else len(wall)
                found[name].append(Round(wall, cpu / max(1, operations)))
    return found


def repeated(operation: Callable[[], object], count: int, clock: Clock = time.perf_counter) -> Side:
    """A round that times each of ``count`` calls."""

    def play() -> list[float]:
        found = []
        for _ in range(count):
            start = clock()
            operation()
            found.append(clock() - start)
        return found

    return play


def batched(operation: Callable[[], object], count: int, batches: int = 5, clock: Clock = time.thread_time) -> Side:
    """A round for what one thread does alone: the mean of ``count`` calls, several times, in CPU time of the thread."""

    def play() -> list[float]:
        found, each = [], range(count)
        for _ in range(batches):
            start = clock()
            for _ in each:
                operation()
            found.append((clock() - start) / count)
        return Batches(found, count * batches)

    return play


def inlined(statement: str, names: Mapping[str, Any], count: int, batches: int = 5) -> Side:
    """`batched` for the shortest: the statement stands in the loop itself, so that nothing but it is counted."""
    timer = timeit.Timer(statement, globals=dict(names), timer=time.thread_time)
    return lambda: Batches([timer.timeit(count) / count for _ in range(batches)], count * batches)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)]


def figures(rounds: Sequence[Round], *, cpu: bool = True, size: float | None = None) -> Figures:
    """The rounds of one side as one: p50 is the median of the rounds' medians, p99 that of all operations."""
    every = [one for played in rounds for one in played.wall]
    return Figures(
        p50=rounded(statistics.median(statistics.median(played.wall) for played in rounds) * 1e6),
        p99=rounded(percentile(every, 99) * 1e6),
        cpu=rounded(statistics.median(played.cpu for played in rounds) * 1e6) if cpu else None,
        samples=len(every),
        bytes=size,
    )


def ratio(found: Rounds, side: str, base: str, *, cpu: bool = False, percent: float = 50) -> float:
    """How many times ``base`` the side takes: the median over the rounds."""
    pairs = zip(found[side], found[base], strict=True)
    if cpu:
        return rounded(statistics.median(one.cpu / max(other.cpu, 1e-9) for one, other in pairs))
    return rounded(statistics.median(percentile(a.wall, percent) / percentile(b.wall, percent) for a, b in pairs))


def used(found: Rounds, side: str, limit: Callable[[int], float], percent: float = 50) -> float:
    """Which part of a limit in seconds, that is given round by round, the side takes: the median over the rounds."""
    parts = [percentile(played.wall, percent) / limit(number) for number, played in enumerate(found[side])]
    return rounded(statistics.median(parts))


def rounded(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}") if value < 1000 else round(value)
