"""What the distance to a missed goal is made of, as found by profiling. The first line that fits a figure is shown beside it."""

from __future__ import annotations

from measuring.report import Cell, Report

NOTES: tuple[tuple[str, str, str, str], ...] = ()
"""Goal, backend or nothing for all, how what was measured begins, and why it is missed."""


def why(report: Report, cell: Cell) -> str:
    """The note on a figure."""
    for goal, backend, what, text in NOTES:
        if report.goal == goal and backend in {"", report.backend} and cell.what.startswith(what):
            return text
    return cell.note
