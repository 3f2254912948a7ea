"""The same registry on nacos-sdk-python, ``?client=sdk``: for those who have to go through the vendor's client.

It keeps less than our own protocol does, because the SDK does: a call that raised may be applied later, up to half a minute; a list of more than 4 MB
ends its connection again and again; an older publisher is not told of a newer one; one change among ten thousand instances costs it fifteen times the
CPU time. What can be cured from outside is: a lost connection is seen and everything is registered again at once, a probe each second finds a connection that
the server gave up, a token that is refused is fetched anew, callbacks only store what they get, the SDK's files and log are in a folder of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from v2.nacos import (
    BatchRegisterInstanceParam,
    ClientConfigBuilder,
    DeregisterInstanceParam,
    ListServiceParam,
    NacosNamingService,
    RegisterInstanceParam,
    SubscribeServiceParam,
)
from v2.nacos.common.client_config import GRPCConfig
from v2.nacos.common.nacos_exception import NacosException
from v2.nacos.transport.connection_event_listener import ConnectionEventListener

from sofa_registry_adapters.backends.nacos import capabilities, namespace
from sofa_registry_adapters.backends.nacos.instances import Host
from sofa_registry_adapters.backends.nacos.listing import Listing, service_of
from sofa_registry_adapters.backends.nacos.names import service_name
from sofa_registry_adapters.backends.nacos.slots import Prepared, Slot, told
from sofa_registry_adapters.errors import Closed, Denied, Refused, RegistryError, Unavailable
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Address, Capabilities, Target
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Snapshot, Wanted

T = TypeVar("T")

LEASE = 20.0
PAGE = 500
FORBIDDEN = 403
PROBE = "sofa.probe"
"""A service that nobody publishes: asking for it shows whether the server knows the connection."""


class _Era(ConnectionEventListener):  # type: ignore[misc]
    """One connection of the SDK, from one of its events to the next."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def on_connected(self) -> None:
        self._next()

    async def on_disconnect(self) -> None:
        self._next()

    def _next(self) -> None:
        self.gone.set()
        self.gone = asyncio.Event()


class SdkRegistry(RegistryBackend):
    """See the module."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._capabilities = capabilities(target)
        self._group = target.text("group")
        self._where = f"nacos at {','.join(map(_joined, target.addresses))}, by its SDK,"
        self._client: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._handlers: list[logging.Handler] = []
        self._era = _Era()
        self._slots: dict[ServiceKey, Slot] = {}
        self._counter = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def lease(self) -> float:
        return LEASE

    async def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sofa-registry-nacos-")
        logger = logging.getLogger("naming")
        before = list(logger.handlers)
        try:
            self._client = NacosNamingService(self._settings())
            self._handlers = [one for one in logger.handlers if one not in before]
            await self._client.grpc_client_proxy.start()
            if not await self._client.server_health():
                raise Unavailable(f"{self._where} cannot be reached")
            await self._client.grpc_client_proxy.rpc_client.register_connection_listener(self._era)
            await self._probe()
        except BaseException:
            await self.close()
            raise

    def _settings(self) -> Any:
        assert self._folder is not None  # noqa: S101  open made it
        builder = ClientConfigBuilder().server_address(",".join(map(_joined, self._target.addresses)))
        builder = builder.namespace_id(namespace(self._target)).context_path(self._target.text("context"))
        builder = builder.username(self._target.username).password(self._target.password)
        # At its usual level the SDK's log has tokens.
        builder = builder.log_level("ERROR").log_dir(self._folder.name).cache_dir(self._folder.name)
        offset = int(self._target.number("grpc_offset"))
        config = builder.grpc_config(GRPCConfig(port_offset=offset)).build()
        config.load_cache_at_start, config.update_cache_when_empty = False, True
        return config

    async def close(self) -> None:
        client, self._client = self._client, None
        self._era.gone.set()
        if client is not None:
            with contextlib.suppress(Exception):
                await client.shutdown()
            client.grpc_client_proxy.redo_service._listen_task.cancel()  # noqa: SLF001  nothing public ends it
        for handler in self._handlers:
            logging.getLogger("naming").removeHandler(handler)
            handler.close()
        if self._folder is not None:
            self._folder.cleanup()

    async def _call(self, work: Callable[[Any], Awaitable[T]], what: str) -> T:
        """Something of the SDK's naming service, its errors as ours. A refused token is fetched anew, once."""
        client = self._client
        if client is None:
            raise Closed(f"{self._where} is not open")
        try:
            return await self._translated(work, client, what)
        except Denied:
            if not self._target.username:
                raise
        with contextlib.suppress(Exception):
            await client.grpc_client_proxy.nacos_server_connector.auth_client.get_access_token(force_refresh=True)
        return await self._translated(work, client, what)

    async def _translated(self, work: Callable[[Any], Awaitable[T]], client: Any, what: str) -> T:
        try:
            return await work(client)
        except NacosException as error:
            raise self._explained(error, what) from None
        except Exception as error:  # noqa: BLE001  the SDK raises what it likes
            raise Unavailable(f"{self._where} fails {what}: {type(error).__name__}: {error}"[:300]) from None

    def _explained(self, error: NacosException, what: str) -> RegistryError:
        denied = error.error_code == FORBIDDEN or "get access token failed" in str(error)
        kind = Denied if denied else Refused if error.error_code == 400 else Unavailable
        return kind(f"{self._where} fails {what} with {error.error_code}: {error.message}"[:300])

    async def _probe(self) -> None:
        await self._list(PROBE)

    async def _list(self, name: str) -> Sequence[msgspec.Raw]:
        found = await self._call(
            lambda client: client.grpc_client_proxy.query_instance_of_service(name, self._group, "", health_only=False),
            "a look-up",
        )
        return _hosts(found.hosts if found is not None else ())

    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        refused: dict[ServiceKey, list[RegistryError]] = {service: [] for service in changed}
        for service in changed:
            slot = self._slots.get(service) or Slot(service, self._clock)
            prepared = await slot.prepare(wanted.instances.get(service, ()), ())
            refused[service] += prepared.refused
            try:
                if not slot.holds(prepared, self._era.gone):
                    await self._register(slot, prepared)
            except (Denied, Refused) as error:
                refused[service].append(error)
        return told(refused)

    async def _register(self, slot: Slot, prepared: Prepared) -> None:
        era = self._era.gone
        place = {"service_name": slot.name, "group_name": self._group}
        if prepared.entries:
            batch = BatchRegisterInstanceParam(**place, instances=[_parameter(one, place) for one in prepared.hosts])
            await self._call(lambda client: client.batch_register_instances(batch), "a registration")
            self._slots[slot.service] = slot
        else:
            last = msgspec.json.decode(slot.any(), type=Host)
            gone = DeregisterInstanceParam(ip=last.ip, port=last.port, **place)
            await self._call(lambda client: client.deregister_instance(gone), "a withdrawal")
            self._slots.pop(slot.service, None)
        slot.on, slot.entries = era, prepared.entries

    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        await self._probe()
        era = self._era.gone
        return {service: frozenset(slot.entries) for service, slot in self._slots.items() if slot.on is not era}

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        listing = Listing()
        step = await listing.take(await self._list(service_name(service)))
        return Snapshot(self._revision(), listing.instances, step.rejected)

    def _revision(self) -> Revision:
        self._counter += 1
        return Revision(str(id(self._era.gone)), self._counter)

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        era, newest, arrived, listing = self._era.gone, [()], asyncio.Event(), Listing()

        async def store(hosts: Any) -> None:
            newest[0] = hosts
            arrived.set()

        name = service_name(service)
        wish = SubscribeServiceParam(service_name=name, group_name=self._group, subscribe_callback=store)
        try:
            await self._call(lambda client: client.subscribe(wish), "a subscription")
            step = await listing.take(await self._list(name))
            yield Snapshot(self._revision(), listing.instances, step.rejected)
            while True:
                await _either(arrived, era)
                if era.is_set():
                    raise Unavailable(f"{self._where} lost its connection")
                arrived.clear()
                if step := await listing.take(_hosts(newest[0])):
                    yield Patch(self._revision(), step.changed, step.removed, step.rejected)
        finally:
            with contextlib.suppress(RegistryError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._call(lambda client: client.unsubscribe(wish), "the end of a subscription")

    async def services(self) -> Sequence[ServiceKey]:
        found: set[ServiceKey] = set()
        number = 0
        while True:
            number += 1
            wish = ListServiceParam(
                namespace_id=namespace(self._target), group_name=self._group, page_no=number, page_size=PAGE
            )
            page = await self._call(lambda client: client.list_services(wish), "a list of services")  # noqa: B023  awaited at once
            for name in page.services:
                if (key := service_of(name, await self._list(name))) is not None:
                    found.add(key)
            if len(page.services) < PAGE:
                return sorted(found)


def _parameter(raw: msgspec.Raw, place: Mapping[str, str]) -> RegisterInstanceParam:
    host = msgspec.json.decode(raw, type=Host)
    fields = {name: getattr(host, name) for name in ("ip", "port", "weight", "healthy", "enabled", "metadata")}
    return RegisterInstanceParam(**fields, cluster_name=host.cluster_name, **place)


def _hosts(hosts: Any) -> Sequence[msgspec.Raw]:
    return [msgspec.Raw(msgspec.json.encode(one.model_dump())) for one in hosts]


def _joined(address: Address) -> str:
    return f"{address.host}:{address.port}"


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
