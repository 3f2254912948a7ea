"""Whoever does something in a soak: each has a thread of its own and does one step after the other."""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.testing.soak.judging import Judge
from sofa_registry_adapters.testing.soak.steps import STEP, Step

CLOSE = 2.0
"""Seconds that a close may take."""


class Actor(ABC):
    """A thread that takes steps. What it raises is noted, and ends nothing."""

    def __init__(self, name: str, judge: Judge) -> None:
        self.name = name
        self.judge = judge
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._open = 0
        self._quiet = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"soak {name}", daemon=True)
        self._thread.start()

    @abstractmethod
    def verbs(self) -> dict[str, Callable[[Step], None]]:
        """What it can do."""

    def post(self, step: Step) -> None:
        """Have a step done, after those that wait."""
        with self._quiet:
            self._open += 1
        self._steps.put(step)

    def drained(self, timeout: float) -> bool:
        """Wait until all is done; whether it is."""
        with self._quiet:
            return self._quiet.wait_for(lambda: not self._open, timeout)

    def end(self) -> None:
        """Take no more steps."""
        self._steps.put(None)
        self._thread.join(CLOSE)

    def _run(self) -> None:
        while (step := self._steps.get()) is not None:
            began, error = time.monotonic(), ""
            try:
                self._do(step)
            except RegistryError as failed:
                error = f"{type(failed).__name__}: {failed}"
            except Exception as failed:  # noqa: BLE001  a defect of the library, or of the soak: it has to be told
                error = f"{type(failed).__name__}: {failed}"
                self.judge.violated("I8", f"{step} ended with {error}")
            self.judge.log.write(STEP, step, seconds=time.monotonic() - began, error=error)
            with self._quiet:
                self._open -= 1
                self._quiet.notify_all()

    def _do(self, step: Step) -> None:
        verb = self.verbs().get(step.verb)
        if verb is None:
            raise ValueError(f"{self.name} cannot {step.verb}")
        verb(step)
