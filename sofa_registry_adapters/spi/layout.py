"""Layouts: where a service lives in a store, what a record is called, what its bytes say.

A layout is pure: no I/O, no clock, no state. Any layout works on any store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sofa_registry_adapters.errors import Unsupported
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.registry import Wanted
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored

Seen = Mapping[RecordKey, Stored]


class ServiceLayout(ABC):
    """A simple layout overrides `bucket`, `record` and `decode`, and `services` if it can list.

    A layout whose records cover several services overrides `records`. A layout that needs several
    reads to find a service overrides `sources`.
    """

    name: ClassVar[str]
    marks_leaving: ClassVar[bool] = False
    """Whether a record can say that its instance is leaving."""
    batch: ClassVar[int | None] = None
    """Records in one write at most, for readers that cannot take more; None: as many as the store takes."""

    @abstractmethod
    def bucket(self, service: ServiceKey) -> Bucket:
        """Where the records of the service are."""

    @abstractmethod
    def record(self, service: ServiceKey, instance: Instance) -> Record:
        """The record of one instance."""

    @abstractmethod
    def decode(self, service: ServiceKey, stored: Stored, seen: Seen) -> Instance | None:
        """The instance that a record describes; None for a record of something else.

        ``seen`` has the records of all `sources`. Raises `CorruptRecord`; that costs this record only.
        """

    def records(self, wanted: Wanted) -> Iterable[Record]:
        """The owner's whole desired state, in the order in which it is written."""
        for service, instances in wanted.instances.items():
            for instance in instances:
                yield self.record(service, instance)

    def sources(self, service: ServiceKey, seen: Seen) -> frozenset[Bucket]:
        """The buckets to read for the service, given what was read; asked until it is stable."""
        return frozenset((self.bucket(service),))

    def root(self) -> tuple[str, ...]:
        """The path right below which `service_of` finds the services' buckets. Raises `Unsupported`."""
        raise Unsupported(f"the layout {self.name} cannot list services")

    def service_of(self, segment: str) -> ServiceKey | None:
        """The service whose bucket has this name below `root`; None if it is none."""
        return None
