"""Nacos as a registry: slots for what is published, subscriptions for what is watched, one connection for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from sofa_registry_adapters.backends.nacos import capabilities, namespace, wire
from sofa_registry_adapters.backends.nacos.connection import Connection
from sofa_registry_adapters.backends.nacos.listing import Listing, ServiceInfo, newest, service_of
from sofa_registry_adapters.backends.nacos.names import service_name
from sofa_registry_adapters.backends.nacos.rivals import Rivals
from sofa_registry_adapters.backends.nacos.slots import Prepared, Slot, told
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.backends.nacos.watching import Subscriptions, Told
from sofa_registry_adapters.errors import Closed, Denied, RegistryError, Unavailable
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Capabilities, Target
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Snapshot, Wanted

LEASE = 20.0
"""Seconds of silence after which the server doubts a connection; it drops it a few seconds later."""
AT_ONCE = 32
"""Requests that are under way at a time."""
PAGE = 500
"""Names of services in one answer."""


class _Names(wire.Answer):
    count: int = 0
    service_names: list[str] | None = None


class NacosRegistry(RegistryBackend):
    """See the module."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._subscriptions = Subscriptions(namespace(target), target.text("group"))
        pushed = {"NotifySubscriberRequest": self._subscriptions.pushed}
        self._transport = Transport(target, clock, "naming", pushed)
        self._capabilities = capabilities(target)
        self._clock = clock
        self._rivals = Rivals(clock, self._capabilities.visible_within)
        self._on: Connection | None = None
        self._slots: dict[ServiceKey, Slot] = {}
        self._denied: dict[ServiceKey, int] = {}
        self._missing: dict[ServiceKey, frozenset[str]] = {}
        # One writer at a time: the later of two requests for one slot has to be the later one at the server, too.
        self._writing = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def lease(self) -> float:
        return LEASE

    async def open(self) -> None:
        await self._transport.open()

    async def close(self) -> None:
        await self._subscriptions.close()
        await self._transport.close()

    async def lost(self) -> None:
        if self._on is None:
            await super().lost()
        else:
            await self._on.gone.wait()

    def _adopt(self, connection: Connection) -> None:
        """On another connection, nothing of what was published before is there."""
        if connection is self._on:
            return
        self._on = connection
        self._missing |= {service: frozenset(slot.entries) for service, slot in self._slots.items()}
        self._rivals.withdrawn(self._slots)

    # Publishing.

    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        refused: dict[ServiceKey, list[RegistryError]] = {service: [] for service in changed}
        # Without an answer the connection goes: what is under way on it could be applied later, and undo what is announced next.
        async with self._writing, self._transport.answering() as connection:
            self._adopt(connection)
            await _all(
                self._bring_in_line(connection, service, wanted.instances.get(service, ()), refused[service])
                for service in changed
            )
        return told(refused)

    async def _bring_in_line(
        self, on: Connection, service: ServiceKey, wanted: Sequence[Instance], refused: list[RegistryError]
    ) -> None:
        slot = self._slots.get(service) or Slot(service, self._clock)
        async with self._places:
            try:
                conflicts = await self._conflicts(on, slot, wanted)
                prepared = await slot.prepare(wanted, conflicts)
                refused += [*prepared.refused, *conflicts.values()]
                if not slot.holds(prepared, on):
                    await self._register(on, slot, prepared)
                if not prepared.entries:
                    self._slots.pop(service, None)
            except (Unavailable, Closed):
                raise
            except RegistryError as error:
                refused.append(error)
                if isinstance(error, Denied):
                    self._denied[service] = self._transport.logins

    async def _conflicts(self, on: Connection, slot: Slot, wanted: Sequence[Instance]) -> Mapping[str, RegistryError]:
        """Those whose id a newer publisher has. The server is asked if there was one a moment ago."""
        if not self._rivals.known(slot.service):
            return {}
        return self._rivals.conflicts(slot.service, wanted, newest((await self._list(slot.name, on)).hosts))

    async def _register(self, on: Connection, slot: Slot, prepared: Prepared) -> None:
        if prepared.entries:
            body = self._about(slot.name, type="batchRegisterInstance", instances=prepared.hosts)
            await self._transport.ask("BatchInstanceRequest", body, wire.Answer, on=on)
            self._slots[slot.service] = slot
            self._rivals.announced(slot.service)
        else:
            # It is the slot that goes, whichever instance is named.
            body = self._about(slot.name, type="deregisterInstance", instance=slot.any())
            await self._transport.ask("InstanceRequest", body, wire.Answer, on=on)
            self._rivals.withdrawn((slot.service,))
        slot.on, slot.entries = on, prepared.entries

    # Staying alive.

    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        await self._transport.log_in()
        async with self._transport.answering() as connection:
            self._adopt(connection)
            service = self._rivals.next()
            if service is None:
                await self._transport.probe(connection)
            else:
                await self._look(connection, self._slots[service])
        for denied in [one for one, logins in self._denied.items() if logins < self._transport.logins]:
            del self._denied[denied]
            self._missing[denied] = frozenset()
        missing, self._missing = self._missing, {}
        return missing

    async def _look(self, on: Connection, slot: Slot) -> None:
        """Instead of a mere probe: whether somebody newer has an id of ours."""
        try:
            info = await self._list(slot.name, on)
        except (Unavailable, Closed):
            raise
        except RegistryError:
            # Whoever may write only cannot look; the server answers, and that is what matters here.
            info = ServiceInfo()
        if self._slots.get(slot.service) is not slot:
            # It was withdrawn meanwhile: there is nothing to look after.
            return
        self._rivals.looked(slot.service, len(info.hosts))
        ours = [entry.instance for entry in slot.entries.values()]
        if conflicts := self._rivals.conflicts(slot.service, ours, newest(info.hosts)):
            self._missing[slot.service] = frozenset(conflicts)

    # Reading.

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        name = service_name(service)
        connection = await self._transport.connection()
        info = await self._list(name, connection)
        # What a watch has missed it tells as a change; the caller then knows everything.
        if self._subscriptions.deliver(connection, name, info, pushed=False) and known is not None:
            return None
        listing = Listing()
        step = await listing.take(info.hosts)
        return Snapshot(self._subscriptions.revision(connection), listing.instances, step.rejected)

    def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        return self._subscriptions.watch(self._transport, service_name(service))

    async def services(self) -> Sequence[ServiceKey]:
        names: list[str] = []
        while True:
            body = self._about("", pageNo=len(names) // PAGE + 1, pageSize=PAGE, selector="")
            answer = await self._transport.ask("ServiceListRequest", body, _Names)
            page = answer.service_names or []
            names += page
            if len(page) < PAGE:
                break
        found: list[ServiceKey] = []
        await _all(self._add_service(name, found) for name in names)
        return sorted(found)

    async def _add_service(self, name: str, found: list[ServiceKey]) -> None:
        """The server goes on naming a service for minutes after its last instance left."""
        async with self._places:
            info = await self._list(name)
        if (key := service_of(name, info.hosts)) is not None:
            found.append(key)

    async def _list(self, name: str, on: Connection | None = None) -> ServiceInfo:
        """What the server says of a service: as old as what it has pushed last."""
        body = self._about(name, cluster="", healthyOnly=False, udpPort=0)
        return (await self._transport.ask("ServiceQueryRequest", body, Told, on=on)).service_info or ServiceInfo()

    def _about(self, name: str, **more: object) -> Mapping[str, object]:
        return self._subscriptions.request(name, **more)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it. The first error ends the rest, and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
