"""The engine of one Registry: a backend, a keeper, mirrors, a bus. Everything here runs on the reactor's loop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import msgspec

from sofa_registry_adapters.engine.defects import close_backend, told_as_defects
from sofa_registry_adapters.engine.disk import Disk, Saved, disk_of
from sofa_registry_adapters.engine.followers import SNAPSHOT_GRACE, Followers
from sofa_registry_adapters.engine.keeper import Keeper, wait_live
from sofa_registry_adapters.engine.lifeline import Lifeline
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.mailbox import Events, Pending
from sofa_registry_adapters.engine.mirror import Mirror
from sofa_registry_adapters.engine.plugins import factory
from sofa_registry_adapters.engine.publication import Publication
from sofa_registry_adapters.engine.reactor import bounded
from sofa_registry_adapters.engine.snapshots import Snapshots, Work
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable
from sofa_registry_adapters.model.events import SnapshotFailed
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, Revision, ServiceView, Source
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Target
from sofa_registry_adapters.spi.registry import RegistryBackend

CLOSE_WITHIN = 2.0
READING = 0.1
"""Seconds that one poll may take."""
LONGEST_MARK = 4.0
"""Seconds at most that a mark is kept for the sake of polls: a withdrawal ends within the usual time-out, however rare they are."""


class Times(msgspec.Struct, frozen=True):
    """The options that are times, in seconds."""

    call_timeout: float
    protection_hold: float
    reconcile: float
    full_read: float
    poll: float
    leaving: float

    @classmethod
    def of(cls, target: Target, capabilities: Capabilities) -> Times:
        """From the options of a target. A mark stays until each consumer, those that poll included, has surely seen it."""
        given = cls(*(target.number(name) for name in cls.__struct_fields__))
        if not given.leaving:
            return given
        polled = 0.0 if capabilities.push else given.poll + max(given.poll / 10, READING)
        seen = min(polled + capabilities.visible_within, LONGEST_MARK)
        return msgspec.structs.replace(given, leaving=max(given.leaving, seen))


class Engine:
    """What a Registry does, as coroutines. Each verb is bounded by its ``timeout``, in seconds."""

    def __init__(self, backend: RegistryBackend, target: Target, clock: Clock, events: Events, owner: str) -> None:
        self.backend = backend
        self.times: Times = Times.of(target, backend.capabilities)
        self.name: str = str(target)
        self.owner = owner
        self._clock = clock
        self._events = events
        self._link = Link(self.name, clock, events.emit)
        self._keeper = Keeper(backend, self.times, clock, self._link, events.emit)
        self._disk = disk_of(target, Disk)
        self._snapshots: Snapshots[ServiceKey, Saved] = Snapshots(
            self._disk.load if self._disk is not None else None,
            clock,
            lambda service, reason: events.emit(SnapshotFailed(service, reason)),
        )
        self._lifeline = Lifeline(
            backend,
            self.name,
            self.times.call_timeout,
            clock,
            self._link,
            lease=lambda: backend.lease,
            ready=self._keeper.ready,
        )
        self._mirrors: Followers[ServiceKey, Mirror] = Followers(
            self._lifeline, self._mirror, self._preload if self._snapshots.enabled else None, self._forget
        )
        self._lifeline.renewed = self._renewed
        self._lifeline.doubted = self._mirrors.cut
        self._closing: asyncio.Task[None] | None = None

    # Life.

    async def start(self) -> None:
        """Begin to connect; does not wait for it."""
        self._keeper.start()
        self._lifeline.start()

    def _renewed(self, missing: Mapping[ServiceKey, frozenset[str]]) -> None:
        if missing:
            self._keeper.missing(missing, "the registry no longer had the record")

    async def close(self) -> None:
        """Withdraw everything, disconnect; within two seconds, whatever the registry does."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._mirrors.close_mailboxes()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN * 0.6):
                await self._withdraw_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN * 0.05):
                await self._snapshots.flush()
        await self._lifeline.stop()
        await self._keeper.stop()
        await self._mirrors.stop()
        await close_backend(self.backend, self.name, CLOSE_WITHIN * 0.3)
        self._snapshots.stop()

    async def _withdraw_all(self) -> None:
        pending = [self._keeper.withdraw(one) for one in self._keeper.publications()]
        if pending and self._keeper.ready.is_set() and self._link.up:
            await asyncio.gather(*pending)

    def _check_open(self) -> None:
        # At the end of the process it is closed under its Registry, which some function at exit may still use.
        if self._closing is not None:
            raise Closed(f"{self.name} was closed: make a new one")

    # Publishing.

    async def publish(
        self, service: ServiceKey, instances: tuple[Instance, ...], timeout: float, *, required: bool
    ) -> Publication:
        """Want the instances in the registry. If ``required``, all or nothing within ``timeout``."""
        self._check_open()
        started = self._clock.wall_ms()
        mine = tuple(
            # What was read from a registry and is published again is started now, by us.
            msgspec.structs.replace(one, started=(not one.owner and one.started) or started, owner=self.owner)
            for one in instances
        )
        publication = Publication(service, mine)
        self._keeper.add(publication)
        if not required:
            return publication
        try:
            if self._lifeline.error is not None:
                raise self._lifeline.error
            await self._wait_live(publication, timeout)
        except BaseException:
            self._keeper.withdraw(publication, told=False)
            raise
        return publication

    async def _wait_live(self, publication: Publication, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        if not self._keeper.ready.is_set():
            await self._lifeline.wait_ready(timeout)
        await wait_live(publication, max(0.0, deadline - asyncio.get_running_loop().time()))

    async def wait_live(self, publication: Publication, timeout: float) -> None:
        """Until the registration is live as it is wanted now."""
        await self._wait_live(publication, timeout)

    async def update(self, publication: Publication, fields: Mapping[str, Any], timeout: float) -> None:
        """Want other values; they stay wanted when ``timeout`` strikes before they are written."""
        changed = tuple(msgspec.structs.replace(one, **fields).checked() for one in publication.instances)
        self._keeper.replace(publication, changed)
        await self._wait_live(publication, timeout)

    async def withdraw(self, publication: Publication, timeout: float) -> None:
        """Want the registration gone, and wait for the confirmation. It stays wanted after ``timeout``."""
        done = self._keeper.withdraw(publication)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(done)
        except TimeoutError:
            raise Unavailable(
                f"{self.name} has not confirmed within {timeout:g} s that {publication.service} is gone; "
                "it will be withdrawn as soon as the registry answers"
            ) from self._link.error

    def abandon(self, publication: Publication) -> None:
        """Withdraw what nobody got a handle of."""
        self._keeper.withdraw(publication, told=False)

    # Watching.

    def source(self, service: ServiceKey) -> Source | None:
        """Where the views of a service that is watched already come from. Any thread."""
        mirror = self._mirrors.find(service)
        return mirror.source if mirror is not None and mirror.known.is_set() else None

    async def lookup(self, service: ServiceKey, timeout: float) -> ServiceView:
        """The instances now; without the registry the last known good, stale."""
        self._check_open()
        deadline = asyncio.get_running_loop().time() + timeout
        mirror = self._mirrors.find(service)
        if mirror is not None:
            await self._mirrors.first(mirror, timeout)
            return mirror.view()
        try:
            await self._lifeline.wait_ready(timeout)
            doing = f"reading {service}"
            async with bounded(max(0.0, deadline - asyncio.get_running_loop().time()), doing):
                with told_as_defects(self.name, doing):
                    found = await self.backend.lookup(service)
        except RegistryError as error:
            return await self._lookup_on_disk(service, error)
        instances = [one for one in found.instances if one.state == "up"] if found else []
        return ServiceView(service, instances, revision=found.revision if found else Revision())

    async def _lookup_on_disk(self, service: ServiceKey, error: RegistryError) -> ServiceView:
        saved = None
        # A disk that hangs is no reason to wait longer than for the registry.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SNAPSHOT_GRACE):
                saved = await self._snapshots.load(service)
        if saved is None:
            raise error
        confirmed = self._clock.monotonic() - self._snapshots.age(saved.saved)
        return ServiceView(service, saved.instances, stale=True, confirmed=confirmed, now=self._clock.monotonic)

    async def attach(self, service: ServiceKey, timeout: float, *, required: bool) -> Pending[InstancesChange]:
        """Follow the service; its first view is there, or, unless ``required``, comes later."""
        self._check_open()
        return await self._mirrors.attach(service, timeout, required=required)

    def _mirror(self, service: ServiceKey) -> Mirror:
        mirror = Mirror(service, self.backend, self.times, self._clock, self._events)
        mirror.changed = self._save_soon
        return mirror

    def _save_soon(self, mirror: Mirror) -> None:
        self._snapshots.save_soon(mirror.service, lambda: self._to_save(mirror))

    def _to_save(self, mirror: Mirror) -> Work | None:
        view = mirror.view()
        if self._disk is None or view.stale:
            return None
        return partial(self._disk.save, mirror.service, view.settle(), self._clock.wall_ms())

    async def _preload(self, mirror: Mirror) -> None:
        saved = await self._snapshots.load(mirror.service)
        if saved is not None:
            mirror.preload(saved.instances, self._snapshots.age(saved.saved))

    def _forget(self, service: ServiceKey) -> None:
        if isinstance(self.backend, StoreRegistry):
            self.backend.forget(service)

    async def services(self, timeout: float) -> Sequence[ServiceKey]:
        """The services that have an instance."""
        self._check_open()
        deadline = asyncio.get_running_loop().time() + timeout
        await self._lifeline.wait_ready(timeout)
        async with bounded(max(0.0, deadline - asyncio.get_running_loop().time()), "listing services"):
            with told_as_defects(self.name, "listing services"):
                return await self.backend.services()


def registry_engine(
    backend: BackendType, layout: type[ServiceLayout], target: Target, clock: Clock, events: Events
) -> Callable[[], Engine]:
    """How to make the engine on its own loop. The client library is imported here, in the caller's thread."""
    make = factory(backend)

    def engine() -> Engine:
        product = make(target, clock)  # type: ignore[operator]
        whole = StoreRegistry(product, layout(), target.number("call_timeout")) if backend.store else product
        return Engine(cast("RegistryBackend", whole), target, clock, events, secrets.token_hex(8))

    return engine
