"""The moments at which nothing is broken: everything has to become true, in time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sofa_registry_adapters.errors import Refused, RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.soak.bounds import EXCHANGE, Bounds
from sofa_registry_adapters.testing.soak.children import Child
from sofa_registry_adapters.testing.soak.clients import Consumer, Provider
from sofa_registry_adapters.testing.soak.judging import Judge, Ledger
from sofa_registry_adapters.testing.soak.model import Model, Wanted

GLANCE = 0.05
Difference = tuple[str, str]
"""The invariant, and what is not as it should be."""


class Quiescence:
    """Compares the model, the registry's own list, and the views of all consumers."""

    def __init__(self, judge: Judge, model: Model, reader: Registry, bounds: Bounds) -> None:
        self.providers: Sequence[Provider] = ()
        self.consumers: Sequence[Consumer] = ()
        self.children: Sequence[Child] = ()
        self._judge = judge
        self._model = model
        self._reader = reader
        self._bounds = bounds

    def reached(self) -> float:
        """Wait until nothing differs; the seconds it took. What differs at the end of the time is violated."""
        began = time.monotonic()
        deadline = max(began + self._bounds.heal, self._model.last_death + self._bounds.mourning + self._judge.slack)
        while True:
            late = time.monotonic() >= deadline
            found = self._differences(complete=late)
            if not found:
                self._count()
                return time.monotonic() - began
            if late:
                for invariant, what in found:
                    self._judge.violated(invariant, f"{what} ({deadline - began:.1f} s after the last fault)")
                return time.monotonic() - began
            time.sleep(GLANCE)

    def _count(self) -> None:
        subscriptions = sum(len(one.ledgers()) for one in self.consumers)
        for invariant, count in (("I1", len(self._model.services)), ("I12", len(self._model.services))):
            self._judge.look(invariant, count)
        for invariant in ("I2", "I5", "I7"):
            self._judge.look(invariant, subscriptions)

    def _differences(self, *, complete: bool) -> list[Difference]:
        """What is not as it should be; the first kind of it only, unless ``complete``."""
        found: list[Difference] = []
        for look in (self._processes, self._states, self._lists):
            found += look()
            if found and not complete:
                return found
        return found

    def _processes(self) -> list[Difference]:
        return [("I1", trouble) for trouble in (child.trouble() for child in self.children) if trouble]

    def _states(self) -> list[Difference]:
        states = {name: state for one in self.providers for name, state in one.states().items()}
        return [("I1", f"{name} is {state}") for name, state in states.items() if state != "live"]

    def _lists(self) -> list[Difference]:
        found: list[Difference] = []
        for service in self._model.services:
            try:
                listed = tuple(self._reader.lookup(service, timeout=EXCHANGE))
            except RegistryError as error:
                invariant = "I8" if isinstance(error, Refused) else "I10"
                found.append((invariant, f"the registry does not answer a reader: {error}"))
                continue
            found += self._compare_list(service, listed)
            for consumer in self.consumers:
                for ledger in consumer.ledgers():
                    if ledger.service == service:
                        found += self._compare_view(consumer, ledger, listed)
        return found

    def _compare_list(self, service: ServiceKey, listed: tuple[Instance, ...]) -> Iterator[Difference]:
        wanted, there = self._model.wanted(service), {one.instance_id: one for one in listed}
        if len(there) != len(listed):
            yield "I4", f"the registry lists an id of {service} twice"
        for name, one in wanted.items():
            if name not in there:
                yield "I1", f"{name} of {service} is not in the registry, {one.holder} wants it there"
            elif not _same(there[name], one):
                yield "I1", f"{name} of {service} is {_shown(there[name])} in the registry, {one.holder} wants {one}"
        for name, found in there.items():
            if name not in wanted:
                gone = "I5" if name.startswith("10.200.") else "I12"
                yield gone, f"{name} of {service} is still in the registry, as {_shown(found)}"

    def _compare_view(self, consumer: Consumer, ledger: Ledger, listed: tuple[Instance, ...]) -> Iterator[Difference]:
        about = f"{ledger.name}, {ledger.service}"
        view = ledger.view
        if view is None:
            yield "I2", f"{about} was never told of anything"
            return
        if view.stale or view.protected:
            yield "I2", f"{about} is {'stale' if view.stale else 'protected'}"
        difference = set(view) ^ set(listed)
        if difference:
            yield "I2", f"{about} differs from the registry in {sorted({one.instance_id for one in difference})}"
        if set(ledger.replica.values()) != set(view):
            yield "I7", f"{about}: the changes do not add up to the view"
        peeked = consumer.registry.lookup(ledger.service, timeout=EXCHANGE)
        if set(peeked) != set(view):
            yield "I7", f"{about}: lookup does not say what the listener was told last"


def _same(found: Instance, wanted: Wanted) -> bool:
    return found.weight == wanted.weight and found.metadata.get("who") == wanted.who


def _shown(found: Instance) -> str:
    return f"weight {found.weight}, who {found.metadata.get('who')!r}, started {found.started}, owner {found.owner}"
