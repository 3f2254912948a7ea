"""What should be true: the instances that applications want in the registry, and whose loss nobody announced."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable

import msgspec

from sofa_registry_adapters.model.names import ServiceKey


class Wanted(msgspec.Struct, frozen=True):
    """One instance, as its publisher wants it."""

    holder: str
    weight: int
    who: str


class Model:
    """Any thread."""

    def __init__(self, services: int) -> None:
        # The name of each is the beginning of the next one's.
        self.services: tuple[ServiceKey, ...] = tuple(
            ServiceKey(f"soak.Echo{'o' * number}", *(("1.0",) if number % 2 else ())) for number in range(services)
        )
        self.anchored: tuple[ServiceKey, ...] = self.services[:-1]
        """Those that always have an instance."""
        self._lock = threading.Lock()
        self._wanted: dict[ServiceKey, dict[str, Wanted]] = {service: {} for service in self.services}
        self._unmarked = 0.0

    def want(self, service: ServiceKey, ids: Iterable[str], wanted: Wanted) -> None:
        """These instances should be there, with these values."""
        with self._lock:
            self._wanted[service].update(dict.fromkeys(ids, wanted))

    def unwant(self, service: ServiceKey, ids: Iterable[str]) -> None:
        """These should not."""
        with self._lock:
            for name in ids:
                self._wanted[service].pop(name, None)

    def unwant_all(self, holder: str) -> None:
        """Nothing of this publisher should be there."""
        with self._lock:
            for found in self._wanted.values():
                for name in [name for name, one in found.items() if one.holder == holder]:
                    del found[name]

    def note_death(self) -> None:
        """Instances go, perhaps without saying so: their records may stay for a lease, and views hold them."""
        with self._lock:
            self._unmarked = time.monotonic()

    @property
    def last_death(self) -> float:
        """When that happened last, on the monotonic clock."""
        return self._unmarked

    def wanted(self, service: ServiceKey) -> dict[str, Wanted]:
        """What should be in the registry of the service."""
        with self._lock:
            return dict(self._wanted[service])

    def of(self, service: ServiceKey, holders: Collection[str]) -> frozenset[str]:
        """The ids that these publishers want."""
        return frozenset(name for name, one in self.wanted(service).items() if one.holder in holders)
