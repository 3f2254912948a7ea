"""What a soak does: steps in rounds, and the log that they are written to and read from."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from sofa_registry_adapters.errors import InvalidArgument

Argument = str | int | float | bool


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``actor`` does ``verb``, so many seconds after the round began."""

    round: int
    at: float
    actor: str
    verb: str
    arguments: dict[str, Argument] = msgspec.field(default_factory=dict)

    def number(self, name: str) -> int:
        """An argument that is a whole number; 0 where it is not given."""
        return int(self.arguments.get(name, 0))

    def seconds(self) -> float:
        """How long it lasts."""
        return float(self.arguments.get("seconds", 0.0))

    def text(self, name: str) -> str:
        """An argument that is text."""
        return str(self.arguments.get(name, ""))

    def flag(self, name: str) -> bool:
        """An argument that is yes or no."""
        return bool(self.arguments.get(name, False))

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.actor}: {self.verb}({given})"


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log: a step that was due, how it went, or what was found."""

    time: float
    what: str
    step: Step | None = None
    seconds: float | None = None
    error: str = ""
    facts: dict[str, object] = msgspec.field(default_factory=dict)


class Log:
    """The log of one run: a JSON object a line; without a path it goes nowhere. Any thread."""

    def __init__(self, path: Path | None) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None if path is None else path.open("wb")

    def write(
        self, what: str, step: Step | None = None, *, seconds: float | None = None, error: str = "", **facts: object
    ) -> None:
        """Write a line, and let it be there whatever happens next."""
        if self._file is None:
            return
        spent = None if seconds is None else round(seconds, 4)
        line = Line(time=round(self.now, 4), what=what, step=step, seconds=spent, error=error, facts=facts)
        with self._lock:
            if not self._file.closed:
                self._file.write(msgspec.json.encode(line) + b"\n")
                self._file.flush()

    @property
    def now(self) -> float:
        """Seconds since the log began."""
        return time.monotonic() - self._began

    def close(self) -> None:
        """Nothing is written any more."""
        with self._lock:
            if self._file is not None:
                self._file.close()


STEP = "step"
HEAD = "soak"


def read_rounds(path: Path) -> Iterator[list[Step]]:
    """The steps of a log, round by round. Raises `InvalidArgument`."""
    steps: list[Step] = []
    for line in read_log(path):
        if line.what != STEP or line.step is None:
            continue
        if steps and line.step.round != steps[-1].round:
            yield steps
            steps = []
        steps.append(line.step)
    if steps:
        yield steps


def read_log(path: Path) -> Iterator[Line]:
    """The lines of a log. Raises `InvalidArgument`."""
    try:
        with path.open("rb") as lines:
            for line in lines:
                yield msgspec.json.decode(line, type=Line)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidArgument(f"{path} is no log of a soak: {error}") from error
