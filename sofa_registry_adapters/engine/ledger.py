"""The books of a store registry: records that were attempted, and refusals by service."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.store import Record, RecordKey


class Held(msgspec.Struct, eq=False, gc=False):
    """A record that was attempted: it may be in the store until a delete is acknowledged.

    ``instance`` is what it was made from, where it speaks for one instance of ``service`` alone.
    ``confirmed``: the store said that it is there. ``uncertain``: a write of unknown outcome may yet arrive.
    """

    key: RecordKey
    record: Record
    service: ServiceKey | None = None
    instance: Instance | None = None
    confirmed: bool = False
    uncertain: bool = False

    @property
    def instance_ids(self) -> frozenset[str]:
        """The instance, if it is one."""
        return frozenset((self.instance.instance_id,)) if self.instance is not None else frozenset()


class Ledger:
    """What is held, by key, by service and by instance."""

    def __init__(self) -> None:
        self._held: dict[RecordKey, Held] = {}
        self._of: dict[ServiceKey | None, dict[RecordKey, None]] = {}
        self._by_id: dict[tuple[ServiceKey | None, str], Held] = {}

    def get(self, key: RecordKey) -> Held | None:
        """What is held at ``key``."""
        return self._held.get(key)

    def of(self, services: Iterable[ServiceKey | None]) -> list[RecordKey]:
        """The keys held for these services, in the order in which they were written."""
        return [key for service in services for key in self._of.get(service, ())]

    def of_instance(self, service: ServiceKey, instance: Instance) -> Held | None:
        """What is held of just this instance, as it is."""
        held = self._by_id.get((service, instance.instance_id))
        return held if held is not None and held.instance is instance else None

    def last(self, service: ServiceKey, instance_id: str) -> Held | None:
        """What is held of the instance, as it was when it was written."""
        return self._by_id.get((service, instance_id))

    def attempt(self, one: Held) -> Held | None:
        """Enter a record before it is sent; what was held there before."""
        before = self._held.get(one.key)
        # Until an answer comes, the record may be there whatever happens next.
        one.uncertain = before is not None and (before.uncertain or not before.confirmed)
        one.confirmed = False
        self.place(one)
        return before

    def place(self, one: Held) -> None:
        """Hold this."""
        self._held[one.key] = one
        self._of.setdefault(one.service, {})[one.key] = None
        if one.instance is not None:
            self._by_id[one.service, one.instance.instance_id] = one

    def drop(self, key: RecordKey) -> None:
        """Hold it no more: its absence is certain."""
        held = self._held.pop(key, None)
        if held is None:
            return
        keys = self._of[held.service]
        del keys[key]
        if not keys:
            del self._of[held.service]
        if held.instance is not None:
            self._by_id.pop((held.service, held.instance.instance_id), None)


class Refusals:
    """What was refused, by service; several kinds of refusal of one service are kept apart."""

    def __init__(self) -> None:
        self._errors: dict[ServiceKey, list[RegistryError]] = {}

    def add(self, services: Iterable[ServiceKey], error: RegistryError, instance_ids: frozenset[str]) -> None:
        """Note a refusal; without ``instance_ids`` it is about the whole service."""
        for service in services:
            self._errors.setdefault(service, []).append(error.about(instance_ids))

    def by_service(self) -> dict[ServiceKey, RegistryError]:
        """One error a service, with the others of that service beside it."""
        return {service: errors[0].beside(errors[1:]) for service, errors in self._errors.items()}
