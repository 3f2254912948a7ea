"""What most killers are played with: a service with two good publishers, a consumer, and the victim."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
from matrix.cell import Cell, listed

from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.faults import PythonProcess
from sofa_registry_adapters.testing.provider import Plan

START = 40.0
"""Seconds that a process may take until it is published; twenty of them start at once on two processors."""
MINE = "10.0.9.1:1"
OTHERS = ("10.0.8.1:1", "10.0.8.2:1")
"""So many that a third one who goes is no half: no view is held for it."""
VICTIM, ENDING = (Path(__file__).parent / name for name in ("victim.py", "ending.py"))


def victim(cell: Cell, mode: str, service: ServiceKey, **fields: str | float) -> PythonProcess:
    """A process of its own that does what ``mode`` says."""
    program = ENDING if fields.pop("ending", "") else VICTIM
    address, url = str(fields.pop("address", MINE)), str(fields.pop("url", "")) or cell.site.url_of("child")
    plan = Plan(mode, url, cell.options, str(service), address, **fields)  # type: ignore[arg-type]
    return cell.program([str(program), msgspec.json.encode(plan).decode()])


def tell(process: PythonProcess, number: signal.Signals = signal.SIGUSR1) -> None:
    """Send it a signal."""
    assert process.alive, f"it has ended with {process.wait()}; it wrote:\n{process.output}"
    os.kill(process.pid, number)


class Neighbours:
    """Those who live beside a victim: publishers of its service, a consumer of it, a reader that nothing happens to."""

    def __init__(self, cell: Cell, *services: ServiceKey) -> None:
        self.cell = cell
        self.reader = cell.direct()
        provider, consumer = cell.registry("provider"), cell.registry("consumer")
        for service in services:
            provider.publish(service, list(OTHERS), timeout=10.0)
        self.ledgers = {service: cell.follow(consumer, service) for service in services}

    def listed(self, service: ServiceKey, address: str = MINE) -> bool:
        """Whether the registry has it; while the registry does not say, it has."""
        found = listed(self.reader, service)
        return found is None or address in found

    def seen(self, service: ServiceKey, address: str = MINE) -> bool:
        """Whether the consumer has it in its view."""
        return address in self.ledgers[service].replica

    def here(self, service: ServiceKey, when: str, bound: float) -> None:
        """It is in the registry and in the view, within the bound."""
        self.cell.within("I1", f"it is in the registry {when}", lambda: self.listed(service), bound)
        self.cell.within("I2", f"the consumer sees it {when}", lambda: self.seen(service), self.cell.told)

    def gone(
        self, service: ServiceKey, when: str, bound: float, invariant: str = "I5", *, view: float | None = None
    ) -> None:
        """It is in neither, within the bound, and the others are. ``view``: seconds for the consumer after that."""
        self.cell.within(invariant, f"the registry has not got it {when}", lambda: not self.listed(service), bound)
        told = self.cell.told if view is None else view
        self.cell.within("I2", f"the consumer does not see it {when}", lambda: not self.seen(service), told)
        self.cell.judge.expect("I3", "others went with it", holds=set(OTHERS) <= set(self.ledgers[service].replica))
