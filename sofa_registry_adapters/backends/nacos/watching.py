"""Subscriptions: the server pushes a service's whole list to the connection, and each watch of it gets the changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from sofa_registry_adapters.backends.nacos import wire
from sofa_registry_adapters.backends.nacos.connection import Connection
from sofa_registry_adapters.backends.nacos.listing import Listing, ServiceInfo
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.registry import Patch, Snapshot

AT_ONCE = 16
"""Subscriptions that begin, and as many that end, at a time. If thousands share the server, all of them are late together."""


class Told(wire.Answer):
    """An answer with a service's list."""

    service_info: ServiceInfo | None = None


class _Named(ServiceInfo):
    name: str = ""
    group_name: str = ""


class _Push(msgspec.Struct, rename="camel"):
    service_info: _Named | None = None


class _Place:
    """One subscription at the server, and the watches that share it."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.watches: set[Inbox] = set()


class Inbox:
    """The newest list of one watch. Older ones that nobody has taken are of no use: a list has everything."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._list = ServiceInfo()
        self._pushed_at = 0
        self._arrived = asyncio.Event()

    def put(self, info: ServiceInfo, *, pushed: bool) -> None:
        """A list came. One that was asked for counts if the server made it after the last one that it pushed."""
        if not pushed and info.last_ref_time <= self._pushed_at:
            return
        if pushed:
            self._pushed_at = info.last_ref_time
        self._list = info
        self._arrived.set()

    async def take(self) -> ServiceInfo:
        """The newest list, when there is one. Raises when the connection is over."""
        while not self._arrived.is_set():
            if self.connection.gone.is_set():
                raise self.connection.why
            await _either(self._arrived, self.connection.gone)
        self._arrived.clear()
        return self._list


class Subscriptions:
    """All watches of one backend."""

    def __init__(self, namespace: str, group: str) -> None:
        self._namespace = namespace
        self._group = group
        self._places: dict[str, _Place] = {}
        self._counter = 0
        self._beginning = asyncio.Semaphore(AT_ONCE)
        self._ending = asyncio.Semaphore(AT_ONCE)
        self._partings: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Forget what the server was still to be told: it forgets the connection."""
        for parting in self._partings:
            parting.cancel()
        await asyncio.gather(*self._partings, return_exceptions=True)

    def revision(self, connection: Connection) -> Revision:
        """A new one: lists are counted as they arrive. Another connection may lead to a server that knows less."""
        self._counter += 1
        return Revision(connection.id, self._counter)

    def pushed(self, connection: Connection, body: memoryview) -> None:
        """Handler of ``NotifySubscriberRequest``."""
        info = msgspec.json.decode(body, type=_Push).service_info
        if info is None or info.group_name != self._group:
            return
        self.deliver(connection, info.name, info, pushed=True)

    def deliver(self, connection: Connection, name: str, info: ServiceInfo, *, pushed: bool) -> bool:
        """Hand a list to the watches of the service; whether there are any."""
        place = self._places.get(name)
        inboxes = [one for one in place.watches if one.connection is connection] if place is not None else []
        for inbox in inboxes:
            inbox.put(info, pushed=pushed)
        return bool(inboxes)

    def request(self, name: str, **more: object) -> dict[str, object]:
        """The body of a request about a service."""
        return {"namespace": self._namespace, "groupName": self._group, "serviceName": name, "module": "naming", **more}

    async def watch(self, transport: Transport, name: str) -> AsyncIterator[Snapshot | Patch]:
        """A snapshot, then patches. Raises when the connection is over."""
        connection = await transport.connection()
        inbox, listing = Inbox(connection), Listing()
        async with self._subscribed(transport, name, inbox):
            step = await listing.take((await inbox.take()).hosts)
            yield Snapshot(self.revision(connection), listing.instances, step.rejected)
            while True:
                step = await listing.take((await inbox.take()).hosts)
                if step:
                    yield Patch(self.revision(connection), step.changed, step.removed, step.rejected)

    @contextlib.asynccontextmanager
    async def _subscribed(self, transport: Transport, name: str, inbox: Inbox) -> AsyncIterator[None]:
        place = self._places.setdefault(name, _Place())
        # Entered first: the server may push before its answer is here.
        place.watches.add(inbox)
        try:
            async with self._beginning, place.turn:
                answer = await self._ask(transport, name, inbox.connection, subscribe=True)
            inbox.put(answer.service_info or ServiceInfo(), pushed=False)
            yield
        finally:
            place.watches.discard(inbox)
            if not place.watches:
                parting = asyncio.create_task(self._part(transport, name, inbox.connection, place))
                self._partings.add(parting)
                parting.add_done_callback(self._partings.discard)

    async def _part(self, transport: Transport, name: str, connection: Connection, place: _Place) -> None:
        """The last watch ends the subscription, before the next one of the service can begin another."""
        # Where this fails the server goes on telling of a service that nobody here watches.
        with contextlib.suppress(RegistryError):
            async with self._ending, place.turn:
                if not place.watches and not connection.gone.is_set():
                    await self._ask(transport, name, connection, subscribe=False)
        if not place.watches and self._places.get(name) is place:
            del self._places[name]

    async def _ask(self, transport: Transport, name: str, connection: Connection, *, subscribe: bool) -> Told:
        body = self.request(name, subscribe=subscribe, clusters="")
        return await transport.ask("SubscribeServiceRequest", body, Told, on=connection)


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
