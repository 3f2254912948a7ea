"""Killers that end the process: what the registry shows after each, and that no interpreter hangs at its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping

from matrix.cell import Cell

from killers import ending
from killers.scene import START, Neighbours, tell, victim
from killers.table import plays
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.faults import PythonProcess
from sofa_registry_adapters.testing.provider import Plan

END = 5.0
"""Seconds from the order to end until the process is gone: never more."""
LONGER = 2.0
"""Seconds that a thread goes on for after the main one."""
SIGNALS = {"interrupted": signal.SIGINT, "handled": signal.SIGTERM, "terminated": signal.SIGTERM}
COMPLAINTS = (
    "Fatal Python error",
    "Exception ignored",
    "was destroyed",
    "never retrieved",
    "never awaited",
    "too long",
)
Endings = Mapping[Callable[[Plan], None], int]


class Doomed:
    """A process for each way to end, each in a service of its own, all of them published and seen."""

    def __init__(self, cell: Cell, endings: Endings, **fields: float) -> None:
        self.cell = cell
        names = [one.__name__ for one in endings]
        self.services = {name: ServiceKey(f"killers.{name}") for name in names}
        self.statuses = {one.__name__: status for one, status in endings.items()}
        self.processes = {
            name: victim(cell, name, service, ending="yes", **fields) for name, service in self.services.items()
        }
        self.neighbours = Neighbours(cell, *self.services.values())
        for process in self.processes.values():
            process.expect("live", START)
        for service in self.services.values():
            self.neighbours.here(service, "before", cell.told)

    def end(self, name: str, number: signal.Signals | None = None) -> None:
        """Tell it to end, and wait for that."""
        began = time.monotonic()
        tell(self.processes[name], number or SIGNALS.get(name, signal.SIGUSR1))
        self.ended(name, began)

    def ended(self, name: str, began: float) -> None:
        """It has ended: in time, with the status that belongs to that, without a complaint."""
        process = self.processes[name]
        status = process.wait(END * 4)
        self.cell.took("I11", "the process has ended", time.monotonic() - began, END)
        said = process.output
        assert status == self.statuses[name], f"{name} ended with {status}; it wrote:\n{said}"
        assert not any(one in said for one in COMPLAINTS), f"{name} wrote:\n{said}"
        tracebacks = said.count("Traceback (most recent call last)")
        assert tracebacks == (name in _SHOWN), f"{name} wrote:\n{said}"
        assert "During handling" not in said, f"{name} wrote:\n{said}"


_SHOWN = {"raises", "interrupted", "interrupts_main", "async_raises", "in_a_call"}
"""Ways to end for which Python itself shows a traceback."""


@plays
def good_order(cell: Cell) -> None:
    doomed = Doomed(cell, ending.GOOD)
    for name, service in doomed.services.items():
        doomed.end(name)
        doomed.neighbours.gone(service, "after that", cell.told, "I11")
    said: PythonProcess = doomed.processes["at_exit"]
    assert said.output.splitlines()[1:] == ["at exit done"] * 3 + ["at exit Closed"] * 3, said.output
    late = ServiceKey("late")
    cell.within("I11", "what was published at exit is gone", lambda: not doomed.neighbours.listed(late), cell.told)


@plays
def without_a_word(cell: Cell) -> None:
    doomed = Doomed(cell, ending.SUDDEN)
    for name in doomed.services:
        doomed.end(name)
    for service in doomed.services.values():
        doomed.neighbours.gone(service, "after that", cell.dead)


@plays
def thread_exits(cell: Cell) -> None:
    doomed = Doomed(cell, {ending.thread_exits: -signal.SIGKILL})
    process, service = doomed.processes["thread_exits"], doomed.services["thread_exits"]
    tell(process)
    process.expect("goes on", START)
    cell.stays("I1", "it is listed", lambda: doomed.neighbours.listed(service), min(cell.lease * 1.5, 10.0))
    assert process.alive


@plays
def thread_goes_on(cell: Cell) -> None:
    doomed = Doomed(cell, {ending.thread_goes_on: 0}, seconds=LONGER)
    service, began = doomed.services["thread_goes_on"], time.monotonic()
    tell(doomed.processes["thread_goes_on"])
    cell.stays("I1", "it is listed", lambda: doomed.neighbours.listed(service), LONGER * 0.8)
    doomed.ended("thread_goes_on", began + LONGER)
    doomed.neighbours.gone(service, "after that", cell.told, "I11")


@plays
def silent_registry(cell: Cell) -> None:
    doomed = Doomed(cell, ending.BLOCKED)
    with cell.hurt("black hole", "child") if cell.site.lines else cell.hurt("pause"):
        began = time.monotonic()
        for name, process in doomed.processes.items():
            tell(process, SIGNALS.get(name, signal.SIGUSR1))
        doomed.processes["in_a_call"].expect("calls", START)
        tell(doomed.processes["in_a_call"], signal.SIGINT)
        for name in doomed.services:
            doomed.ended(name, began)
    assert "listens" in doomed.processes["listener_blocks"].output
    for service in doomed.services.values():
        # Without a line of its own the victim cannot be alone with the silence: the consumer comes back from it as well.
        view = cell.told if cell.site.lines else cell.told + cell.bounds.heal
        doomed.neighbours.gone(service, "after that", cell.bounds.silent, view=view)
