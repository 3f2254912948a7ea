"""The page that shows the matrix: what was held, with its figures, what is not applicable and why, and what was not played."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix.table import BACKENDS, FAULTS, Figure, Result, Results, read

INTRO = """\
What the library promises holds in faults. Each row is one, each cell a test that hurts a real server, the lines to it, or a process, and looks
at what providers have in the registry and consumers in their views, meanwhile and after. `tox -e outage` plays all of them again and writes
`tests/outage/results/*.json`, from which this page is made; some thirty cells are played with every run of the tests. What is looked at:

- **I1** what is published and alive is in the registry again, soon after the fault; **I12** what was withdrawn stays so;
- **I2** every view equals the registry's list, soon after the fault; **I7** what listeners were told adds up to it;
- **I3** no view is empty because of a fault; **I4** no id is in a view twice; **I6** no view goes back to an older one;
- **I5** who is gone is served for a bounded time, and a view without a registry says that it is stale;
- **I8** nonsense and bad listeners harm nobody else; **I9** no threads or files are left; **I10** every call ends in time; **I11** so does close.

In a cell: the longest that each invariant with a figure took, in seconds. The bounds are below, row by row; they follow from what a product
[declares](options.md#who-can-do-what) and from the options of the tests: a lease of two seconds, a second for one exchange, and a second for
a busy machine.
"""


def page() -> str:
    """The whole page."""
    found = {backend: read(backend) for backend in BACKENDS}
    names = sorted({name for results in found.values() for name in results.cells})
    return (
        "# The outage matrix\n\n<!-- Written by docs/generate.py: play the cells, then run it. -->\n\n"
        f"{INTRO}\n{_played(found)}\n## Row by row\n\n{_table(_rows(found, names))}\n"
        f"## Not applicable\n\n{_absences(found, names)}\n## Figures\n\nSeconds, and the bound.\n\n{_figures(found, names)}"
    )


def _table(rows: Iterable[Sequence[str]]) -> str:
    titles = ("", "fault", *(f"`{backend}`" for backend in BACKENDS))
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(one.replace('|', '/') for one in line)} |\n" for line in lines)


def _played(found: Mapping[str, Results]) -> str:
    lines = (f"- `{name}`: {one.versions}, {one.date}\n" for name, one in found.items() if one.cells)
    return "Played on\n\n" + "".join(lines)


def _rows(found: Mapping[str, Results], names: Sequence[str]) -> Iterable[Sequence[str]]:
    for number, fault in FAULTS.items():
        parts = [name for name in names if int(name[:2]) == number]
        if not parts:
            yield (str(number), fault, *(["not yet"] * len(BACKENDS)))
        for part in parts:
            cells = [found[backend].cells.get(part) for backend in BACKENDS]
            said = next(one.fault for one in cells if one is not None)
            yield (part.removeprefix("0"), said, *(_cell(one) for one in cells))


def _cell(result: Result | None) -> str:
    if result is None:
        return "not yet"
    if result.outcome != "held":
        return "n/a" if result.outcome == "not applicable" else f"**failed**: {result.reason.splitlines()[0]}"
    longest: dict[str, float] = {}
    for one in result.figures:
        longest[one.invariant] = max(longest.get(one.invariant, 0.0), one.seconds)
    figures = ", ".join(
        f"{name} {seconds:.2g}" for name, seconds in sorted(longest.items(), key=lambda one: int(one[0][1:]))
    )
    return f"held: {figures}" if figures else "held"


def _absences(found: Mapping[str, Results], names: Sequence[str]) -> str:
    said: dict[tuple[str, str], list[str]] = {}
    for name in names:
        for backend in BACKENDS:
            result = found[backend].cells.get(name)
            if result is not None and result.outcome == "not applicable":
                said.setdefault((backend, result.reason), []).append(name.removeprefix("0"))
    return "".join(f"- `{backend}`, {', '.join(rows)}: {reason}\n" for (backend, reason), rows in said.items())


def _figures(found: Mapping[str, Results], names: Sequence[str]) -> str:
    sections = (f"### {name.removeprefix('0')}\n\n{table}\n" for name in names if (table := _figures_of(found, name)))
    return "".join(sections).rstrip("\n") + "\n"


def _figures_of(found: Mapping[str, Results], name: str) -> str:
    cells = {backend: result for backend in BACKENDS if (result := found[backend].cells.get(name)) is not None}
    every = [(backend, figure) for backend, result in cells.items() for figure in result.figures]
    wanted: dict[tuple[str, str], dict[str, list[Figure]]] = {}
    for backend, figure in every:
        wanted.setdefault((figure.invariant, figure.what), {}).setdefault(backend, []).append(figure)
    return (
        _table(
            (invariant, what, *(_seconds(of.get(backend, [])) for backend in BACKENDS))
            for (invariant, what), of in wanted.items()
        )
        if wanted
        else ""
    )


def _seconds(figures: Sequence[Figure]) -> str:
    """The longest of those that have one name."""
    if not figures:
        return ""
    worst = max(figures, key=lambda one: one.seconds / one.bound)
    return f"{worst.seconds:.2f} ≤ {worst.bound:.2g}"
