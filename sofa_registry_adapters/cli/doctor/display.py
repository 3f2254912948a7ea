"""Doctor's report on a screen, and for a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from sofa_registry_adapters.cli.doctor.findings import STEPS, Finding, Removal, Report, exit_code
from sofa_registry_adapters.cli.doctor.repair import Outcome
from sofa_registry_adapters.cli.screen import say

SHOWN = 20
"""Findings of one kind; more are counted."""
_TITLES = {"tcp": "TCP", "tls": "TLS"}


def show(report: Report) -> None:
    """The steps, then the findings, then the verdict."""
    for step in report.steps:
        say(f"{'ok' if step.good else '!!':<3} {_TITLES.get(step.step, step.step):<11} {step.seen}")
    if report.findings:
        say()
    seen: Counter[str] = Counter()
    for finding in report.findings:
        seen[finding.code] += 1
        if seen[finding.code] <= SHOWN:
            say(line(finding))
    for code, count in seen.items():
        if count > SHOWN:
            say(f"and {count - SHOWN} more of {code}; --json has them all")
    say()
    say(verdict(report))


def line(finding: Finding) -> str:
    """A finding in one line."""
    place = finding.where or finding.step
    return f"{finding.severity}: {place}: {finding.sentence}"


def verdict(report: Report) -> str:
    """How it stands, in one sentence."""
    counts = Counter(one.severity for one in report.findings)
    shown = [
        f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
        for severity in ("error", "warning", "note")
        if counts[severity]
    ]
    skipped = [_TITLES.get(one, one) for one in STEPS[_position(report) + 1 :]]
    rest = f"; not examined: {', '.join(skipped)}" if skipped else ""
    return f"{', '.join(shown) or 'nothing is wrong'}{rest}"


def _position(report: Report) -> int:
    return STEPS.index(report.steps[-1].step) if report.steps else -1


def show_removals(removals: Sequence[Removal], kept: Sequence[Outcome], proof: str) -> None:
    """What would be removed, with the proof, and what was named and would not."""
    say()
    for one in kept:
        say(f"kept: {one.service}/{one.record}: {one.why}")
    for removal in removals:
        say(f"to be removed: {removal.service}/{removal.record}: {removal.why}")
    if not removals:
        say(f"nothing is proven to be dead, so nothing is removed. When an owner is certainly gone: {proof}")


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """What became of each."""
    for one in outcomes:
        say(f"{'removed' if one.removed else 'kept'}: {one.service}/{one.record}: {one.why}")


def report_json(report: Report, outcomes: Sequence[Outcome], left: Sequence[Finding]) -> dict[str, object]:
    """The report for a machine; ``left`` are the findings that no removal has settled."""
    return {
        "url": report.url,
        "steps": [msgspec.to_builtins(one) for one in report.steps],
        "findings": [{**_fields(one), "sentence": one.sentence} for one in report.findings],
        "removable": [msgspec.to_builtins(one) for one in report.removable],
        "proof": report.proof,
        "outcomes": [one._asdict() for one in outcomes],
        "ok": not exit_code(left),
    }


def _fields(finding: Finding) -> dict[str, object]:
    return {name: getattr(finding, name) for name in finding.__struct_fields__}
