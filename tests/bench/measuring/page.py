"""The page that shows the results: those missed first, then goal by goal what was compared with what."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from measuring import report
from measuring.machine import Machine
from measuring.notes import why
from measuring.report import Cell, Report
from measuring.rounds import Figures

INTRO = """\
What the library costs beside the raw client libraries and its peers, measured in one run: `tox -e bench` runs all of it, `python tests/bench --only P4 --backend redis`
a part; the results are in `tests/bench/results/*.json`, from which this page is made. The sides of a comparison alternate in short rounds, in the same process or in new ones in turns,
on a server of their own on loopback; a figure is the median of the rounds' medians, a ratio the median of the rounds' ratios. Times are microseconds, *CPU* is that of the
measuring process for one operation. Absolute times move from machine to machine, ratios less so; a goal is a ratio where it can be. Of the limit: up to 100 % the goal is reached.
"""
GOALS = Path(__file__).resolve().parent / "goals"


def page() -> str:
    """The whole page."""
    reports = sorted(report.read(), key=lambda one: (int(one.goal[1:]), one.backend))
    judged = [(one, cell) for one in reports for cell in one.cells if cell.used is not None]
    missed = [(one, cell) for one, cell in judged if cell.missed]
    return (
        "# Performance\n\n<!-- Written by docs/generate.py: measure, then run it. -->\n\n"
        f"{INTRO}\n![Latency against the number of instances, the storm, and memory](performance.svg)\n\n"
        f"## Missed\n\n{_missed(missed, len(judged))}\n## Reached\n\n{_reached(judged)}\n"
        f"## Where and with what\n\n{_machines(reports)}\n{''.join(_goals(reports))}"
    ).rstrip("\n") + "\n"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(one.replace('|', '/') for one in line)} |\n" for line in lines)


def _missed(missed: Sequence[tuple[Report, Cell]], of: int) -> str:
    if not missed:
        return f"None of {of}.\n"
    rows = (
        (
            one.goal,
            _where(one),
            cell.what + _size(cell),
            _figure(cell),
            _limit(cell),
            f"{cell.used:.0%}",
            why(one, cell),
        )
        for one, cell in sorted(missed, key=lambda pair: -(pair[1].used or 0))
    )
    titles = ("goal", "on", "what", "figure", "limit", "of the limit", "what the distance is made of")
    return f"{len(missed)} of {of} figures, the farthest first.\n\n{_table(titles, rows)}"


def _reached(judged: Sequence[tuple[Report, Cell]]) -> str:
    rows = (
        (one.goal, _where(one), cell.what + _size(cell), _figure(cell), _limit(cell), f"{cell.used:.0%}")
        for one, cell in judged
        if not cell.missed
    )
    return _table(("goal", "on", "what", "figure", "limit", "of the limit"), rows)


def _machines(reports: Sequence[Report]) -> str:
    if not reports:
        return "Nothing was measured yet.\n"
    machines = {_machine(one.machine): one.machine for one in reports}
    versions: dict[str, set[str]] = {}
    for one in reports:
        for name, version in one.machine.versions.items():
            versions.setdefault(name, set()).add(version)
    lines = [f"- {text}\n" for text in machines]
    named = (f"{name} {'/'.join(sorted(found))}" for name, found in versions.items() if name != "server")
    servers = ", ".join(sorted(versions.get("server", set())))
    loads = [one.machine.load for one in reports]
    dates = sorted(one.machine.date for one in reports)
    return (
        f"{''.join(lines)}- {', '.join(named)}\n- servers: {servers}\n"
        f"- from {dates[0]} to {dates[-1]} (UTC); the load average when a part began was {min(loads):g} to {max(loads):g}\n"
    )


def _machine(machine: Machine) -> str:
    return (
        f"{machine.processors} of {machine.processor}, {machine.memory_gib:g} GiB, {machine.system}, {machine.python}"
    )


def _goals(reports: Sequence[Report]) -> Iterator[str]:
    for path in sorted(GOALS.glob("p*.py")):
        found = [one for one in reports if one.module == path.stem]
        if found:
            # Read, not imported: this page is made without what the measuring needs.
            yield _goal(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "", found)


def _goal(text: str, reports: Sequence[Report]) -> str:
    title, _, rest = text.strip().partition("\n\n")
    head = title.partition(": ")
    heading = f"{head[0]}: {head[2][:1].upper()}{head[2][1:]}".rstrip(".") if head[2] else title.rstrip(".")
    rows = [row for one in reports for cell in one.cells for row in _rows(one, cell)]
    titles = ("on", "what", "n", "ours p50 / p99", "CPU", "raw p50 / p99", "CPU", "others", "figure", "limit")
    return f"## {heading}\n\n{' '.join(rest.split())}\n\n{_table(titles, rows)}\n"


def _rows(one: Report, cell: Cell) -> Iterator[Sequence[str]]:
    ours, raw = cell.sides.get("ours"), cell.sides.get("raw")
    others = [f"{name} {_pair(side)}" for name, side in cell.sides.items() if name not in {"ours", "raw"}]
    others += [f"{name}: {value:g}" for name, value in cell.ratios.items()]
    verdict = "" if cell.used is None else f"{_limit(cell)} ({cell.used:.0%})"
    yield (
        _where(one),
        cell.what,
        _count(cell.n),
        _pair(ours),
        _cpu(ours),
        _pair(raw),
        _cpu(raw),
        ", ".join(others),
        f"**{_figure(cell)}**" if cell.missed else _figure(cell),
        verdict,
    )


def _where(one: Report) -> str:
    return f"`{one.backend}`" if one.backend else ""


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}".replace(",", " ")


def _size(cell: Cell) -> str:
    return f", n = {_count(cell.n)}" if cell.n is not None else ""


def _figure(cell: Cell) -> str:
    return f"{_number(cell.figure)} {cell.unit}"


def _limit(cell: Cell) -> str:
    return f"{_number(cell.limit)} {cell.unit}" if cell.limit is not None else ""


def _pair(side: Figures | None) -> str:
    if side is None:
        return ""
    if side.bytes is not None:
        return f"{side.bytes:g} bytes"
    return f"{_number(side.p50)} / {_number(side.p99)}"


def _cpu(side: Figures | None) -> str:
    return _number(side.cpu) if side is not None and side.cpu is not None else ""


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 1000 else f"{value:g}"
