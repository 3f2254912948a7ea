"""The engine of one Registry: a backend, a keeper, mirrors, a bus. Everything here runs on the reactor's loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from sofa_registry_adapters.engine.keeper import Keeper, wait_live
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.mailbox import Events, Mailbox
from sofa_registry_adapters.engine.mirror import Mirror
from sofa_registry_adapters.engine.publication import Publication
from sofa_registry_adapters.engine.reactor import bounded, stop_tasks
from sofa_registry_adapters.engine.retry import REACHABILITY, REFUSAL
from sofa_registry_adapters.engine.snapshots import Snapshots
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import Refused, RegistryError, Unavailable
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision, ServiceView
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Capabilities, Target
from sofa_registry_adapters.spi.registry import RegistryBackend

SNAPSHOT_GRACE = 0.3
"""Seconds that a first view from the registry gets before the one on disk is served."""
GLANCE = 0.05
"""Seconds between two looks at whether waiting has become pointless."""
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
        """From the options of a target. Where consumers poll, a mark stays for longer than a poll, so that each sees it."""
        given = cls(*(target.number(name) for name in cls.__struct_fields__))
        if capabilities.push or not given.leaving:
            return given
        seen = min(given.poll + max(given.poll / 10, READING), LONGEST_MARK)
        return msgspec.structs.replace(given, leaving=max(given.leaving, seen))


class Engine:
    """What a Registry does, as coroutines. Each verb is bounded by its ``timeout``, in seconds."""

    def __init__(self, backend: RegistryBackend, target: Target, clock: Clock, events: Events, owner: str) -> None:
        self.backend = backend
        self.times: Times = Times.of(target, backend.capabilities)
        self.name: str = str(target)
        self.owner = owner
        self._target = target
        self._clock = clock
        self._events = events
        self._link = Link(self.name, clock, events.emit)
        self._keeper = Keeper(backend, self.times, clock, self._link, events.emit)
        self._mirrors: dict[ServiceKey, Mirror] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._side: set[asyncio.Task[Any]] = set()
        self._snapshots = Snapshots(target, clock, events.emit)
        self._open_error: RegistryError | None = None
        self._closing: asyncio.Task[None] | None = None

    # Life.

    async def start(self) -> None:
        """Begin to connect; does not wait for it."""
        self._keeper.start()
        self._tasks.append(asyncio.create_task(self._connect()))

    async def _connect(self) -> None:
        attempts = 0
        while True:
            try:
                async with bounded(self.times.call_timeout, "connecting"):
                    await self.backend.open()
            except RegistryError as error:
                attempts += 1
                self._link.lost(error)
                known = not isinstance(error, Unavailable)
                self._open_error = error if known else None
            except Exception as error:  # noqa: BLE001  a backend's bug must not end the attempts
                attempts += 1
                logger.exception("connecting failed in a way that is a defect")
                self._link.lost(error)
                known = False
            else:
                break
            await self._clock.sleep((REFUSAL if known else REACHABILITY).delay(attempts))
        self._open_error = None
        self._link.restored()
        self._keeper.ready.set()
        await self._renew()

    async def _renew(self) -> None:
        """The heartbeat, and the proof that what was published is still there."""
        lease, within = self.backend.lease, self.backend.capabilities.detects_loss_within
        interval = min(lease / 3 if lease else within, within / 2)
        bound = min(self.times.call_timeout, max(lease / 3, 0.5)) if lease else self.times.call_timeout
        failures = 0
        while True:
            await (self._clock.sleep(REACHABILITY.delay(failures)) if failures else self._pause(interval))
            try:
                async with bounded(bound, "renewing"):
                    missing = await self.backend.renew()
            except RegistryError as error:
                failures += 1
                self._doubt(error)
            except Exception as error:  # noqa: BLE001  a backend's bug must not end the heartbeat
                failures += 1
                logger.exception("renewing failed in a way that is a defect")
                self._doubt(error)
            else:
                failures = 0
                self._link.restored()
                if missing:
                    self._keeper.missing(missing, "the registry no longer had the record")

    async def _pause(self, interval: float) -> None:
        """Until the next heartbeat is due, or the backend knows that something is lost."""
        await self._clock.sleep(min(REACHABILITY.first, interval))
        due = asyncio.create_task(self._clock.sleep(max(0.0, interval - REACHABILITY.first)))
        lost = asyncio.create_task(self.backend.lost())
        try:
            await asyncio.wait((due, lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop_tasks(due, lost)

    def _doubt(self, error: Exception) -> None:
        self._link.lost(error)
        for mirror in self._mirrors.values():
            mirror.cut()

    async def close(self) -> None:
        """Withdraw everything, disconnect; within two seconds, whatever the registry does."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for mirror in self._mirrors.values():
            for mailbox in tuple(mirror.mailboxes):
                mailbox.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN * 0.6):
                await self._withdraw_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN * 0.05):
                await self._snapshots.flush()
        await stop_tasks(*self._tasks)
        await self._keeper.stop()
        await asyncio.gather(*(mirror.stop() for mirror in self._mirrors.values()))
        await stop_tasks(*self._side)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN * 0.3):
                await self.backend.close()
        self._snapshots.stop()

    async def _withdraw_all(self) -> None:
        pending = [self._keeper.withdraw(one) for one in self._keeper.publications()]
        if pending and self._keeper.ready.is_set() and self._link.up:
            await asyncio.gather(*pending)

    async def _ready(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not self._keeper.ready.is_set():
                    if self._open_error is not None:
                        raise self._open_error
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(GLANCE):
                            await self._keeper.ready.wait()
        except TimeoutError:
            cause = self._link.error
            raise Unavailable(f"{self.name} cannot be reached within {timeout:g} s: {cause}") from cause

    # Publishing.

    async def publish(
        self, service: ServiceKey, instances: tuple[Instance, ...], timeout: float, *, required: bool
    ) -> Publication:
        """Want the instances in the registry. If ``required``, all or nothing within ``timeout``."""
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
            if self._open_error is not None:
                raise self._open_error
            await self._wait_live(publication, timeout)
        except BaseException:
            self._keeper.withdraw(publication, told=False)
            raise
        return publication

    async def _wait_live(self, publication: Publication, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        if not self._keeper.ready.is_set():
            await self._ready(timeout)
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

    def peek(self, service: ServiceKey) -> ServiceView | None:
        """The view of a service that is watched already. Any thread; no I/O."""
        mirror = self._mirrors.get(service)
        return mirror.view() if mirror is not None and mirror.known.is_set() else None

    async def lookup(self, service: ServiceKey, timeout: float) -> ServiceView:
        """The instances now; without the registry the last known good, stale."""
        deadline = asyncio.get_running_loop().time() + timeout
        mirror = self._mirrors.get(service)
        if mirror is not None:
            await self._first_view(mirror, timeout)
            return mirror.view()
        try:
            await self._ready(timeout)
            async with bounded(max(0.0, deadline - asyncio.get_running_loop().time()), f"reading {service}"):
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
        confirmed = self._clock.monotonic() - self._snapshots.age(saved)
        return ServiceView(service, saved.instances, stale=True, confirmed=confirmed, now=self._clock.monotonic)

    async def attach(self, service: ServiceKey, timeout: float, *, required: bool) -> Mailbox:
        """Follow the service; its first view is there, or, unless ``required``, comes later."""
        mirror = self._mirrors.get(service)
        if mirror is None:
            mirror = self._follow(service)
        mailbox = Mailbox(mirror.source, self._forget_soon(mirror), known=mirror.known.is_set())
        mirror.mailboxes.append(mailbox)
        try:
            if required or self._snapshots.enabled:
                await self._first_view(mirror, timeout if required else min(timeout, SNAPSHOT_GRACE * 2))
        except BaseException as error:
            if not required and isinstance(error, RegistryError):
                return mailbox
            mailbox.close()
            raise
        return mailbox

    def _follow(self, service: ServiceKey) -> Mirror:
        mirror = Mirror(service, self.backend, self.times, self._clock, self._events)
        mirror.changed = self._snapshots.save_soon
        mirror.proven = self._link.proven
        self._mirrors[service] = mirror
        mirror.starting = asyncio.create_task(self._start_mirror(mirror))
        return mirror

    async def _start_mirror(self, mirror: Mirror) -> None:
        """Follow as soon as the registry is there; what is on disk is served only if that takes a moment."""
        preloading = asyncio.create_task(self._preload(mirror))
        try:
            await self._keeper.ready.wait()
            mirror.start()
            await preloading
        finally:
            await stop_tasks(preloading)

    async def _preload(self, mirror: Mirror) -> None:
        failed = asyncio.create_task(mirror.failed.wait())
        known = asyncio.create_task(mirror.known.wait())
        try:
            await asyncio.wait((failed, known), timeout=SNAPSHOT_GRACE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop_tasks(failed, known)
        if mirror.known.is_set():
            return
        saved = await self._snapshots.load(mirror.service)
        if saved is not None:
            mirror.preload(saved.instances, self._snapshots.age(saved))

    async def _first_view(self, mirror: Mirror, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not mirror.known.is_set():
            left = start + timeout - loop.time()
            error = mirror.error if isinstance(mirror.error, Refused) else self._open_error
            # What the registry refuses may still be on disk, which has had its time by then.
            if error is not None and loop.time() - start > SNAPSHOT_GRACE * 2:
                raise error
            if left <= 0:
                cause = mirror.error or self._link.error
                raise Unavailable(
                    f"nothing is known of {mirror.service} after {timeout:g} s: {self.name} gave no answer"
                    + (f" ({cause})" if cause else "")
                ) from cause
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, GLANCE)):
                    await mirror.known.wait()

    def _forget_soon(self, mirror: Mirror) -> Callable[[Mailbox], None]:
        loop = asyncio.get_running_loop()

        def forget(mailbox: Mailbox) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._detach, mirror, mailbox)

        return forget

    def _detach(self, mirror: Mirror, mailbox: Mailbox) -> None:
        if mailbox in mirror.mailboxes:
            mirror.mailboxes.remove(mailbox)
        if mirror.mailboxes or self._mirrors.get(mirror.service) is not mirror or self._closing is not None:
            return
        del self._mirrors[mirror.service]
        if isinstance(self.backend, StoreRegistry):
            self.backend.forget(mirror.service)
        self._aside(mirror.stop())

    async def services(self, timeout: float) -> Sequence[ServiceKey]:
        """The services that have an instance."""
        deadline = asyncio.get_running_loop().time() + timeout
        await self._ready(timeout)
        async with bounded(max(0.0, deadline - asyncio.get_running_loop().time()), "listing services"):
            return await self.backend.services()

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._side.add(task)
        task.add_done_callback(self._side.discard)
