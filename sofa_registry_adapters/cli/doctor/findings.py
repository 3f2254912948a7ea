"""What doctor says: findings, and the report that they make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Severity = Literal["error", "warning", "note"]
Step = Literal["settings", "name", "tcp", "tls", "login", "permission", "version", "clock", "records"]

STEPS: tuple[Step, ...] = ("settings", "name", "tcp", "tls", "login", "permission", "version", "clock", "records")


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is wrong: what, where, and what to do. ``code`` tells machines what it is about."""

    severity: Severity
    step: Step
    code: str
    what: str
    advice: str = ""
    service: str = ""
    record: str = ""

    @property
    def where(self) -> str:
        """The service and the record, empty for what is about the registry as a whole."""
        return "/".join(part for part in (self.service, self.record) if part)

    @property
    def sentence(self) -> str:
        """What is wrong and what to do."""
        ended = self.what if self.what.endswith((".", "?", "!")) else f"{self.what}."
        return f"{ended} {self.advice}".strip()


class Passed(msgspec.Struct, frozen=True):
    """A step that was taken, and what was seen; ``good`` is false where something was found."""

    step: Step
    seen: str
    good: bool = True


class Stop(Exception):
    """A finding that makes every further step pointless."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


class Removal(msgspec.Struct, frozen=True):
    """A record that may be removed, at the revision at which it was seen, and the proof that it is dead."""

    service: str
    bucket: tuple[str, ...]
    record: str
    revision: str
    why: str
    kind: Literal["owner gone", "named"]


class Report(msgspec.Struct):
    """What was examined, what was found, what could be removed.

    ``here`` is whether only this machine uses the registry, ``proof`` when an owner is certainly gone.
    """

    url: str = ""
    steps: list[Passed] = []
    findings: list[Finding] = []
    removable: list[Removal] = []
    here: bool = True
    proof: str = ""

    def passed(self, step: Step, seen: str) -> None:
        """A step was taken."""
        good = not any(one.step == step and one.severity != "note" for one in self.findings)
        self.steps.append(Passed(step, seen, good))


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if there is nothing worse than a note, else 1."""
    return int(any(one.severity != "note" for one in findings))
