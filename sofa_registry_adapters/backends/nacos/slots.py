"""What is registered: one slot for each service, with all of its instances.

A connection has one place for each service at the server: registering again replaces all that is in it. So everything is always registered together
and as a batch, even a single instance, and the last one leaves by giving the slot up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from sofa_registry_adapters.backends.nacos.instances import host_of
from sofa_registry_adapters.backends.nacos.names import is_shortened, service_name
from sofa_registry_adapters.errors import RegistryError, ValueTooLarge
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.clock import Clock

CHUNK = 500
"""Instances that are encoded in one turn of the event loop."""
MAX_BYTES = 10_000_000
"""Of all instances of a service together: the server takes requests of 10 MiB."""

_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True):
    """One instance as it is, or was, sent."""

    instance: Instance
    host: msgspec.Raw


class Slot:
    """The instances of one service as they were last registered, by id, and the connection that this was done through.

    Where a connection ended without the server's knowledge its instances stay listed beside those of the next one. So an instance that was changed
    says when, and readers take the newest.
    """

    def __init__(self, service: ServiceKey, clock: Clock) -> None:
        self.service = service
        self.on: object = None
        self._clock = clock
        self.name: str = service_name(service)
        self.told: str = str(service) if is_shortened(service) else ""
        self.entries: dict[str, Entry] = {}

    async def prepare(self, wanted: Iterable[Instance], withheld: Collection[str]) -> Prepared:
        """What the slot should hold; nothing is changed yet."""
        prepared, size = Prepared(), 0
        for number, instance in enumerate(wanted):
            if number % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            name = instance.instance_id
            if name in withheld:
                continue
            entry = self.entries.get(name)
            if entry is None or entry.instance is not instance:
                entry = self._entry(instance, entry, prepared) or entry
            if entry is None:
                continue
            size += len(memoryview(entry.host)) + 1
            if size > MAX_BYTES:
                prepared.refused.append(self._too_many(name, size))
                continue
            prepared.entries[name] = entry
        return prepared

    def _entry(self, instance: Instance, before: Entry | None, prepared: Prepared) -> Entry | None:
        updated = 0 if before is None or before.instance == instance else self._clock.wall_ms()
        try:
            return Entry(instance, msgspec.Raw(_encode(host_of(instance, self.told, updated))))
        except RegistryError as error:
            prepared.refused.append(error.about(frozenset((instance.instance_id,))))
            # What stands of it stays: a refused update takes nothing away.
            return None

    def _too_many(self, name: str, size: int) -> RegistryError:
        return ValueTooLarge(
            f"{self.service} would have {size} bytes of instances from this process, and Nacos takes {MAX_BYTES} in one "
            "request: publish some of them from another Registry"
        ).about(frozenset((name,)))

    def is_on(self, connection: object) -> bool:
        """Whether the server has anything of it through this connection."""
        return self.on is connection and bool(self.entries)

    def any(self) -> msgspec.Raw:
        """One of the entries; there is one."""
        return next(iter(self.entries.values())).host

    def holds(self, prepared: Prepared, connection: object) -> bool:
        """Whether the server has just this through the connection."""
        if not self.is_on(connection):
            return not prepared.entries
        entries = prepared.entries
        return self.entries.keys() == entries.keys() and all(
            entry is self.entries[name] or entry.host == self.entries[name].host for name, entry in entries.items()
        )


class Prepared(msgspec.Struct):
    """What a slot should hold, and what cannot be in it."""

    entries: dict[str, Entry] = {}
    refused: list[RegistryError] = []

    @property
    def hosts(self) -> Sequence[msgspec.Raw]:
        """The entries as they are sent."""
        return [entry.host for entry in self.entries.values()]


def told(errors: Mapping[ServiceKey, Sequence[RegistryError]]) -> dict[ServiceKey, RegistryError]:
    """One error for each service, with its others beside it."""
    return {service: some[0].beside(some[1:]) for service, some in errors.items() if some}
