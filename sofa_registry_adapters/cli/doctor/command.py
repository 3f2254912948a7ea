"""The command `doctor`: examine, show, and remove what is provably dead if that is wanted and agreed to."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
import typer

from sofa_registry_adapters.cli.doctor import display
from sofa_registry_adapters.cli.doctor.examination import Wish, examine
from sofa_registry_adapters.cli.doctor.findings import Removal, Report, exit_code
from sofa_registry_adapters.cli.doctor.repair import Name, Outcome, Repair, parse_name
from sofa_registry_adapters.cli.doctor.setting import read_setting
from sofa_registry_adapters.cli.screen import end_output, note, say_json
from sofa_registry_adapters.engine.reactor import DaemonExecutor
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.face import check_timeout
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.clock import Clock, SystemClock

T = TypeVar("T")


class Fixing(msgspec.Struct, frozen=True):
    """Whether to remove, without a question, and which permanent records."""

    wanted: bool = False
    agreed: bool = False
    records: Sequence[str] = ()


def doctor(wish: Wish, services: Sequence[str], fixing: Fixing, *, as_json: bool, clock: Clock | None = None) -> int:
    """Examine a registry; the exit code: 0 nothing worse than a note, 1 findings."""
    names = _checked(fixing, as_json=as_json)
    check_timeout(wish.timeout)
    wish = msgspec.structs.replace(wish, services=[ServiceKey.parse(one) for one in services], tell=note)
    clock = clock or SystemClock()
    report = run(examine(wish, clock))
    try:
        return _told(report, wish, names, fixing, clock, as_json=as_json)
    except BrokenPipeError:
        # Whoever read has enough. How it stands is asked of the exit code.
        end_output()
        return exit_code(report.findings)


def _told(report: Report, wish: Wish, names: Sequence[Name], fixing: Fixing, clock: Clock, *, as_json: bool) -> int:
    """Show the report, and remove what is to be removed; the exit code."""
    if not as_json:
        display.show(report)
    outcomes: list[Outcome] = []
    if fixing.wanted and report.steps[-1].step == "records":
        outcomes = _fix(wish, names, fixing, report, clock, as_json=as_json)
    elif fixing.wanted:
        note("nothing is removed: the examination did not come as far as the records")
    removed = {(one.service, one.record) for one in outcomes if one.removed}
    left = [one for one in report.findings if not one.record or (one.service, one.record) not in removed]
    if as_json:
        say_json(display.report_json(report, outcomes, left))
    return exit_code(left)


def _checked(fixing: Fixing, *, as_json: bool) -> list[Name]:
    if not fixing.wanted and (fixing.agreed or fixing.records):
        raise InvalidArgument(f"{'--yes' if fixing.agreed else '--record'} goes with --fix")
    if fixing.wanted and not fixing.agreed and (as_json or not sys.stdin.isatty()):
        raise InvalidArgument("--fix asks before it removes anything, and there is nobody to ask: add --yes")
    return [parse_name(one) for one in fixing.records]


def _fix(
    wish: Wish, names: Sequence[Name], fixing: Fixing, report: Report, clock: Clock, *, as_json: bool
) -> list[Outcome]:
    """Show what would be removed, ask, remove."""
    setting = read_setting(wish.url)
    repair = Repair(setting, clock, wish.timeout, here=report.here)
    found, kept = run(repair.find(names)) if names else ([], [])
    removals = [*report.removable, *found]
    if not as_json:
        display.show_removals(removals, kept, report.proof)
    if not removals or not (fixing.agreed or _agreed(removals)):
        return kept
    outcomes = run(repair.remove(removals))
    if not as_json:
        display.show_outcomes(outcomes)
    return [*kept, *outcomes]


def _agreed(removals: Sequence[Removal]) -> bool:
    what = "this record" if len(removals) == 1 else f"these {len(removals)} records"
    agreed = typer.confirm(f"Remove {what}?", err=True)
    if not agreed:
        note("nothing was removed")
    return agreed


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop of our own, whose name resolution delays no exit."""

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        loop.set_default_executor(DaemonExecutor(1))
        return loop

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)
