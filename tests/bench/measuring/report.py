"""What was measured, as it is kept in ``results/*.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from measuring.machine import Machine
from measuring.rounds import Figures

RESULTS = Path(__file__).resolve().parent.parent / "results"


class Cell(msgspec.Struct, omit_defaults=True):
    """One figure beside its goal.

    ``used`` is the part of the goal's limit that was taken: up to 1 the goal is reached. None: there is no goal, the figure is for information.
    ``figure`` and ``limit`` are in ``unit``. ``n`` is the number of instances, services or listeners. ``note`` says what a missed goal is made of.
    """

    what: str
    figure: float
    unit: str
    limit: float | None = None
    used: float | None = None
    n: int | None = None
    sides: dict[str, Figures] = {}
    ratios: dict[str, float] = {}
    note: str = ""

    @property
    def missed(self) -> bool:
        """Whether there is a goal, and it is not reached."""
        return self.used is not None and self.used > 1.0


class Report(msgspec.Struct, omit_defaults=True):
    """One goal on one backend. ``backend`` is empty where none is concerned; ``module`` of `measuring.goals` has measured it."""

    goal: str
    module: str
    backend: str
    machine: Machine
    cells: list[Cell]
    seconds: float = 0.0

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return RESULTS / f"{self.goal}{'-' if self.backend else ''}{self.backend}.json"

    def write(self) -> None:
        """Keep it."""
        RESULTS.mkdir(exist_ok=True)
        self.path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def of_limit(what: str, figure: float, unit: str, limit: float, **more: object) -> Cell:
    """A cell whose figure must not be above its limit."""
    return Cell(what, figure, unit, limit, float(f"{figure / limit:.3g}"), **more)  # type: ignore[arg-type]


def read() -> Iterator[Report]:
    """All that is kept."""
    for path in sorted(RESULTS.glob("P*.json")):
        yield msgspec.json.decode(path.read_bytes(), type=Report)
