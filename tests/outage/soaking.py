"""The table of soaks, from their results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from sofa_registry_adapters.testing.soak.report import Report

RESULTS = Path(__file__).parent / "results"
TITLES = (
    "on", "seed", "minutes", "rounds", "calls", "checks", "violations", "settled: median, longest", "threads", "files", "memory, MiB",
)  # fmt: skip


def table() -> str:
    """A row for each result."""
    lines = (TITLES, ("---",) * len(TITLES), *map(_row, _reports()))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _reports() -> Iterator[Report]:
    for file in sorted(RESULTS.glob("soak-*.json")):
        yield msgspec.json.decode(file.read_bytes(), type=Report)


def _row(report: Report) -> tuple[str, ...]:
    counts = report.rounds, sum(report.calls.values()), sum(report.looked.values()), report.violated
    settled = f"{report.settled['median']:.2f} s, {report.settled['longest']:.1f} s"
    trends = (
        f"{one.first:.0f} → {one.last:.0f}" for one in map(report.trends.__getitem__, ("threads", "files", "memory"))
    )
    return (
        f"`{report.backend}`",
        str(report.seed),
        f"{report.seconds / 60:.0f}",
        *(f"{one:,}" for one in counts),
        settled,
        *trends,
    )
