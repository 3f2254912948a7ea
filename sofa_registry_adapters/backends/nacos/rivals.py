"""Publishers elsewhere that have an id of ours. Nacos lists the entries of all of them; the one that started last counts.

Nobody tells an older publisher that a newer one came: it has to look. One look takes the place of one heartbeat, and large lists are looked at
less often, so that nobody pays for it: the newest of our services first, then one after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sofa_registry_adapters.backends.nacos.instances import Listed
from sofa_registry_adapters.errors import Conflict, RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.clock import Clock

PACE = 25.0
"""Entries that are read in a second, on average."""


class Rivals:
    """When to look at which service, and what was seen. What is announced shows in lists ``visible_within`` seconds later."""

    def __init__(self, clock: Clock, visible_within: float) -> None:
        self._clock = clock
        self._visible_within = visible_within
        self._due: dict[ServiceKey, float] = {}
        self._free_at = 0.0
        self._known: set[ServiceKey] = set()

    def known(self, service: ServiceKey) -> bool:
        """Whether the last look found a newer publisher."""
        return service in self._known

    def announced(self, service: ServiceKey) -> None:
        """There is something of ours, or something else than before."""
        self._due[service] = self._clock.monotonic() + self._visible_within

    def withdrawn(self, services: Iterable[ServiceKey]) -> None:
        """There is nothing of ours to look after."""
        for service in tuple(services):
            self._due.pop(service, None)

    def next(self) -> ServiceKey | None:
        """The service to look at now, if it is time to look at any."""
        now = self._clock.monotonic()
        if not self._due or now < self._free_at:
            return None
        service = min(self._due, key=lambda one: self._due[one])
        return service if self._due[service] <= now else None

    def looked(self, service: ServiceKey, entries: int) -> None:
        """A list of so many entries was read."""
        now = self._clock.monotonic()
        self._due[service] = now
        self._free_at = now + entries / PACE

    def conflicts(
        self, service: ServiceKey, ours: Iterable[Instance], found: Mapping[str, Listed]
    ) -> Mapping[str, RegistryError]:
        """Those of ours whose id a newer publisher has, and the reason to withhold each."""
        conflicts = {
            one.instance_id: Conflict(
                f"the instance {one.instance_id!r} of {service} is held by a newer publisher: stop the other process, or give "
                "this one another instance_id"
            ).about(frozenset((one.instance_id,)))
            for one in ours
            if _is_newer(found.get(one.instance_id), one)
        }
        if conflicts:
            self._known.add(service)
        else:
            self._known.discard(service)
        return conflicts


def _is_newer(entry: Listed | None, ours: Instance) -> bool:
    theirs = entry.instance if entry is not None else None
    if theirs is None or theirs.owner == ours.owner or theirs.state != "up":
        return False
    return (theirs.started, theirs.owner) > (ours.started, ours.owner)
