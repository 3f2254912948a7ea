"""Publishers with a process of their own, to be killed and frozen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

import sofa_registry_adapters
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.processes import PythonProcess
from sofa_registry_adapters.testing.provider import Plan
from sofa_registry_adapters.testing.soak.actors import Actor
from sofa_registry_adapters.testing.soak.judging import Judge
from sofa_registry_adapters.testing.soak.model import Model, Wanted
from sofa_registry_adapters.testing.soak.steps import Step

FIRST = 30.0
"""Seconds until a new process has published, at most, while nothing is broken."""


class Child(Actor):
    """One instance of one service; each life of it is another publisher with the same id."""

    def __init__(self, number: int, judge: Judge, model: Model, url: str, options: Mapping[str, Value]) -> None:
        self.number = number
        self.service = model.services[number % len(model.services)]
        self.address = f"10.200.0.{number + 1}:80"
        self.process: PythonProcess | None = None
        self._lives = 0
        self._model = model
        self._url = url
        self._options = dict(options)
        super().__init__(f"child {number}", judge)

    def verbs(self) -> dict[str, Callable[[Step], None]]:
        return {"start": lambda _: self.start(), "kill": lambda _: self.kill(), "freeze": self._freeze}

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.process is not None

    def start(self) -> None:
        """A new process, which begins to publish."""
        if self.process is not None:
            return
        self._lives += 1
        who = f"{self.name}/{self._lives}"
        plan = Plan("stay", self._url, self._options, str(self.service), self.address, who=who)
        package = str(Path(sofa_registry_adapters.__file__).parent.parent)
        places = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        arguments = ["-m", "sofa_registry_adapters.testing.provider", msgspec.json.encode(plan).decode()]
        self.process = PythonProcess(arguments, {"PYTHONPATH": places})
        self._model.want(self.service, [self.address], Wanted(self.name, 100, who))

    def wait(self) -> None:
        """Until it has published. Raises AssertionError."""
        if self.process is not None:
            self.process.expect("live", FIRST)

    def kill(self) -> None:
        """End it, without any chance to clean up."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            self._model.unwant(self.service, [self.address])
            self._model.note_death()

    def _freeze(self, step: Step) -> None:
        if self.process is None:
            return
        self.process.stop()
        try:
            time.sleep(step.seconds())
        finally:
            self.process.cont()
            self._model.note_death()

    def trouble(self) -> str:
        """Nothing, or how it ended although nobody killed it."""
        if self.process is None or self.process.alive:
            return ""
        return f"{self.name} ended by itself:\n{self.process.output}"
