"""Playing cells: what is not applicable, what happens to the site afterwards, and where the result goes."""

from __future__ import annotations

import contextlib
import time
import uuid
from pathlib import Path
from typing import Any

from matrix.cell import Cell
from matrix.table import Outcome, Result, Row
from sofa_registry_adapters.testing.faults.nemeses import NEMESES
from sofa_registry_adapters.testing.faults.site import Site


def impossible(row: Row, site: Site) -> str:
    """Why the row cannot be played there; nothing if it can."""
    missing = [NEMESES[name].meaning for name in row.needs if not NEMESES[name].possible(site)]
    return f"cannot happen here: {'; '.join(missing)}" if missing else ""


def play(row: Row, site: Site, folder: Path) -> Result:
    """Play one cell. Raises what does not hold."""
    began = time.monotonic()
    cell = Cell(site, f"row-{row.number}-{uuid.uuid4().hex[:8]}", folder)
    try:
        row.play(cell)
        cell.finish()
    finally:
        site.heal()
        _whole(site)
        cell.close()
    looked = cell.judge.looked
    unseen = [one for one in row.invariants if not looked[one]]
    assert not unseen, f"the row names {', '.join(unseen)}, and nothing looked at it"
    seconds = round(time.monotonic() - began, 1)
    checks = sum(looked.values())
    return result_of(row, "held", figures=tuple(cell.figures), checks=checks, seconds=seconds)


def result_of(row: Row, outcome: Outcome, **fields: Any) -> Result:
    """What became of a cell of the row."""
    return Result(outcome=outcome, fault=row.fault, invariants=row.invariants, **fields)


def _whole(site: Site) -> None:
    """A row that failed may have left the server dead or frozen."""
    if "start" in site.abilities:
        site.start()
    with contextlib.suppress(NotImplementedError):
        site.resume()
