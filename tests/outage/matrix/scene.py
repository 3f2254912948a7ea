"""The scene of most rows: a provider of several services, a consumer of all of them, a reader that nothing happens to."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from matrix.cell import Cell, Watcher, listed
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.handles import Registration
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.soak.judging import Ledger

SERVICES, EACH = 5, 4


class Scene:
    """``with Scene(cell) as scene``: inside no view may ever be empty. ``options`` are those of the consumer."""

    def __init__(self, cell: Cell, *, services: int = SERVICES, each: int = EACH, **options: Value) -> None:
        self.cell = cell
        self.provider: Registry = cell.registry("provider")
        self.consumer: Registry = cell.registry("consumer", **options)
        self.reader: Registry = cell.direct()
        self.services = [ServiceKey(f"matrix.Echo{number}", "1.0") for number in range(services)]
        self.registrations: list[Registration] = [
            self.provider.publish(service, [f"10.0.{number}.{index + 1}:80" for index in range(each)], timeout=10.0)
            for number, service in enumerate(self.services)
        ]
        self.weights = dict.fromkeys(self.services, 100)
        self.ledgers: list[Ledger] = [cell.follow(self.consumer, service) for service in self.services]
        self.settled("at the beginning", 10.0)
        self.cell.figures.clear()
        self._watcher = Watcher(cell, dict.fromkeys(self.services, self.consumer))

    def __enter__(self) -> Self:
        self._watcher.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._watcher.__exit__(kind, error, None)

    @property
    def first(self) -> ServiceKey:
        """One of the services."""
        return self.services[0]

    def live(self) -> bool:
        """Every registration says so, or was withdrawn."""
        return all(one.state in ("live", "withdrawn") for one in self.registrations)

    def complete(self) -> bool:
        """The registry has all that is wanted, as it is wanted, and nothing else."""
        for service in self.services:
            found = listed(self.reader, service)
            wanted = {
                one.instance_id: one.weight
                for registration in self.registrations
                if registration.service == service and registration.state != "withdrawn"
                for one in registration.instances
            }
            if found is None or {name: one.weight for name, one in found.items()} != wanted:
                return False
        return True

    def agreed(self) -> bool:
        """Every view equals what the registry lists, and is neither stale nor protected."""
        for ledger in self.ledgers:
            found, view = listed(self.reader, ledger.service), ledger.view
            if found is None or view is None or view.stale or view.protected or set(view) != set(found.values()):
                return False
            if set(ledger.replica.values()) != set(view) or set(self.consumer.lookup(ledger.service)) != set(view):
                return False
        return True

    def stale(self) -> bool:
        """Every view says that it cannot be trusted."""
        return all(ledger.view is not None and ledger.view.stale for ledger in self.ledgers)

    def settled(self, when: str, bound: float) -> None:
        """I1, I2 and I7, within the bound."""
        cell = self.cell
        cell.within("I1", f"all is in the registry {when}", lambda: self.complete() and self.live(), bound)
        cell.within("I2", f"every view equals the registry {when}", self.agreed, bound)
        cell.judge.look("I7", len(self.ledgers))

    def guard(self) -> None:
        """From here on no view may lose any of what is published now."""
        for ledger in self.ledgers:
            ledger.guard = frozenset(ledger.replica)

    def change(self, weight: int) -> None:
        """Every provider changes its weight; whether the registry answers or not."""
        for registration in self.registrations:
            try:
                registration.update(weight=weight, timeout=0.2)
            except RegistryError:
                continue

    def flows(self, weight: int) -> None:
        """A change is seen, as when nothing was ever broken."""
        self.change(weight)
        cell = self.cell
        cell.within(
            "I2", "a change is seen after that", lambda: self.complete() and self.agreed(), cell.told + cell.bounds.heal
        )
