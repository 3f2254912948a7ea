"""The benchmarks: ``python tests/bench [--only P4 …] [--backend redis …] [--rounds 7]``; ``tox -e bench`` runs all of them.

Each goal is measured on each backend that it concerns, on a server that is started for it; what was found is written to ``results/*.json``,
and the page docs/reference/performance.md with its picture is made from these files.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import pkgutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

from measuring import goals, picture
from measuring.machine import machine
from measuring.places import BACKENDS, place
from measuring.report import Cell, Report
from measuring.rounds import ROUNDS

ROOT = Path(__file__).resolve().parents[2]


def modules() -> list[ModuleType]:
    """All goals, in their order."""
    names = sorted(one.name for one in pkgutil.iter_modules(goals.__path__))
    return [importlib.import_module(f"measuring.goals.{name}") for name in names]


def line(cell: Cell) -> str:
    """A cell for the terminal."""
    size = f" n={cell.n}" if cell.n is not None else ""
    goal = f", limit {cell.limit:g}: {cell.used:.0%}" if cell.limit is not None and cell.used is not None else ""
    sides = ", ".join(f"{name} {one.p50:g}/{one.p99:g} cpu {one.cpu or 0:g}" for name, one in cell.sides.items())
    ratios = ", ".join(f"{name} {one:g}" for name, one in cell.ratios.items())
    return f"  {'MISSED ' if cell.missed else ''}{cell.what}{size}: {cell.figure:g} {cell.unit}{goal} | {sides} | {ratios}\n"


def run(module: ModuleType, backend: str, rounds: int) -> Report:
    """One goal on one backend."""
    start, name = time.monotonic(), module.__name__.rpartition(".")[2]
    if backend:
        with place(backend) as where:
            found = Report(module.GOAL, name, backend, machine(where.version), module.measure(where, rounds))
    else:
        found = Report(module.GOAL, name, backend, machine(), module.measure(None, rounds))
    found.seconds = round(time.monotonic() - start, 1)
    return found


def main() -> int:
    """Run; the exit code says whether everything could be measured. A goal that is missed is no failure: the page says it."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="GOAL", help="P2 to P15")
    parser.add_argument("--backend", nargs="+", default=[], choices=BACKENDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-page", action="store_true", help="write the results only")
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    failed = []
    for module in modules():
        if given.only and module.GOAL not in given.only:
            continue
        for backend in module.BACKENDS:
            if given.backend and backend not in given.backend:
                continue
            sys.stdout.write(f"{module.GOAL} {module.TITLE} {backend}\n")
            sys.stdout.flush()
            try:
                report = run(module, backend, given.rounds)
            except Exception as error:
                logging.disable(logging.NOTSET)
                logging.getLogger("bench").exception("%s %s", module.GOAL, backend)
                logging.disable(logging.ERROR)
                failed.append(f"{module.GOAL} {backend}: {error}")
                continue
            report.write()
            sys.stdout.write("".join(map(line, report.cells)) + f"  {report.seconds:g} s\n")
            sys.stdout.flush()
    sys.stdout.write("".join(f"not measured: {one}\n" for one in failed))
    if not given.no_page:
        picture.draw()
        subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py")], check=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
