"""The page that shows the killers: what the registry shows meanwhile and after, with figures and bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix.table import BACKENDS, Figure, Result, Results, read

from killers.table import KILLERS, RESULTS, Killer

INTRO = """\
What kills, blocks or starves Python programs, done to real processes that publish: what the registry shows meanwhile and afterwards, and in how many
seconds. `tox -e outage` plays all of it and writes `tests/outage/results/killers/*.json`, from which this page is made; some are played with every run of the
tests. In a cell: the longest that each invariant took, in seconds; the names are those of [the outage matrix](guarantees.md). **I11** is here the end of the
process: from the order to end until the interpreter is gone. It never takes more than five seconds, whatever is blocked, and whether the registry answers or not.

Beside the victim two other publishers of its service live, so that nothing is [held](../explanation/guarantees.md). The lease is two seconds where the product
lets it be chosen; Nacos notices after thirty seconds that a client is silent.
"""
ELSEWHERE = """\
## Tested elsewhere

| what | meanwhile | after | where |
| --- | --- | --- | --- |
| an application blocks its event loop, for three leases | stays listed | stays listed | `test_42_the_busy_stay[block]` of the contract, on every backend |
| the main thread computes in Python, for three leases | stays listed | stays listed | `test_42_the_busy_stay[spin]` of the contract |
| stopped (SIGSTOP) and continued | gone when its lease is over | published again within a second | row 8 of [the matrix](guarantees.md), `test_43_the_frozen_come_back` |
| stopped while another publisher takes its id, and continued | the other one's is listed | takes nothing back | `test_44_the_thawed_do_not_rob` |
| SIGKILL | still listed | gone when its connection or its lease is found dead | row 21, `test_40_the_killed_vanish` |
| SIGKILL, and started again at once with the same id | listed | the new one's, and it stays | row 3, `test_45_restarted_with_the_same_id` |
| `os.fork`: the child exits, closes, collects garbage, publishes | the parent's stays | the parent's stays; the child's is its own, or is refused | row 27, `test_71_fork` |
| listeners that raise, block, call back | stays listed | stays listed | row 26 |

On Nacos, whose instances are in the memory of the server, two hundred processes on two processors are not back all at once after its restart: consumers
keep who is missing in the first list, [protected](../explanation/guarantees.md), until the hold is over.

While one call in C holds the interpreter's lock, no library can do anything in that process: not answer, not renew. What counts is what happens after it, and that
consumers are not misled: where nobody else publishes the service, its last instance is served from the view until the hold is over.

An exit waits for threads that are not daemons: Python does that, before any library is asked. A call of this library that such a thread waits in ends with its
time-out.
"""


def page() -> str:
    """The whole page."""
    found = {backend: read(backend, RESULTS) for backend in BACKENDS}
    rows = (_row(one, found) for one in KILLERS.values())
    titles = ("what", "meanwhile the registry shows it", "and after", *(f"`{backend}`" for backend in BACKENDS))
    return (
        "# What kills Python programs\n\n<!-- Written by docs/generate.py: play the cells, then run it. -->\n\n"
        f"{INTRO}\n{_played(found)}\n## The killers\n\n{_table(titles, rows)}\n{ELSEWHERE}\n"
        f"## Not applicable\n\n{_absences(found)}\n## Figures\n\nSeconds, and the bound; of several processes the slowest.\n\n{_figures(found)}"
    )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _played(found: Mapping[str, Results]) -> str:
    lines = (f"- `{name}`: {one.versions}, {one.date}\n" for name, one in found.items() if one.cells)
    return "Played on\n\n" + "".join(lines)


def _row(killer: Killer, found: Mapping[str, Results]) -> Sequence[str]:
    cells = (_cell(found[backend].cells.get(killer.name)) for backend in BACKENDS)
    return (killer.what, killer.meanwhile, killer.after, *cells)


def _cell(result: Result | None) -> str:
    if result is None:
        return "not played"
    if result.outcome != "held":
        return "n/a" if result.outcome == "not applicable" else f"**failed**: {result.reason.splitlines()[0][:120]} …"
    longest: dict[str, float] = {}
    for one in result.figures:
        longest[one.invariant] = max(longest.get(one.invariant, 0.0), one.seconds)
    figures = (f"{name} {seconds:.2g}" for name, seconds in sorted(longest.items(), key=lambda one: int(one[0][1:])))
    return "held: " + ", ".join(figures) if longest else "held"


def _absences(found: Mapping[str, Results]) -> str:
    cells = ((backend, name, one) for backend in BACKENDS for name, one in found[backend].cells.items())
    absent = (
        f"- `{backend}`, {name}: {one.reason}\n" for backend, name, one in cells if one.outcome == "not applicable"
    )
    return "".join(absent)


def _figures(found: Mapping[str, Results]) -> str:
    sections = (f"### {KILLERS[name].what}\n\n{text}\n" for name in KILLERS if (text := _figures_of(found, name)))
    return "".join(sections).rstrip("\n") + "\n"


def _figures_of(found: Mapping[str, Results], name: str) -> str:
    wanted: dict[tuple[str, str], dict[str, list[Figure]]] = {}
    for backend in BACKENDS:
        result = found[backend].cells.get(name)
        for figure in result.figures if result is not None else ():
            wanted.setdefault((figure.invariant, figure.what), {}).setdefault(backend, []).append(figure)
    rows = ((*key, *(_seconds(of.get(backend, [])) for backend in BACKENDS)) for key, of in wanted.items())
    return _table(("", "", *(f"`{backend}`" for backend in BACKENDS)), rows) if wanted else ""


def _seconds(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    worst = max(figures, key=lambda one: one.seconds / one.bound)
    return f"{worst.seconds:.2f} ≤ {worst.bound:.2g}"
