"""What this process wants to be in the registry, and the tasks that keep making it true, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from sofa_registry_adapters.engine.defects import defect
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.publication import Publication
from sofa_registry_adapters.engine.reactor import bounded, stop_tasks
from sofa_registry_adapters.engine.retry import CONFLICT, REACHABILITY, REFUSAL, Schedule
from sofa_registry_adapters.errors import (
    AlreadyPublished,
    BackendDefect,
    Closed,
    Conflict,
    DeadlineExceeded,
    Denied,
    RegistryError,
    Unavailable,
)
from sofa_registry_adapters.model.events import (
    Event,
    Published,
    RegistrationConflict,
    RegistrationLost,
    RegistrationRefused,
    Withdrawn,
)
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.registry import RegistryBackend, Wanted

BATCH = 500
"""Instances for which an exchange may take one call time-out."""


class Pace(Protocol):
    """The times a keeper keeps, in seconds."""

    @property
    def call_timeout(self) -> float: ...
    @property
    def leaving(self) -> float: ...


_Gone = tuple[frozenset[str], asyncio.Future[None]]
"""Ids that are withdrawn, and what is done once the registry confirmed it."""


class _Leaving(msgspec.Struct):
    instance: Instance
    due: float | None = None
    """When its record is to be deleted; None until the registry has the mark."""


class _Service:
    """Everything the keeper knows about one service."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.leaving: dict[str, _Leaving] = {}
        self.gone: list[_Gone] = []
        self.attempts = 0

    def wanted(self) -> tuple[Instance, ...]:
        """What should be in the registry: what is published, and what is marked on its way out."""
        ids = {name for one in self.publications for name in one.ids} if self.leaving else frozenset[str]()
        kept = (one.instance for name, one in self.leaving.items() if name not in ids)
        return (*(instance for one in self.publications for instance in one.instances), *kept)

    def idle(self) -> bool:
        """Whether there is nothing left to remember."""
        return not (self.publications or self.leaving or self.gone)


class Keeper:
    """Desired state and the task that announces it. Lives on the engine's loop."""

    def __init__(
        self, backend: RegistryBackend, pace: Pace, clock: Clock, link: Link, emit: Callable[[Event], None]
    ) -> None:
        self.ready: asyncio.Event = asyncio.Event()
        """Set once the backend is open."""
        self._backend = backend
        self._pace = pace
        self._clock = clock
        self._link = link
        self._emit = emit
        self._services: dict[ServiceKey, _Service] = {}
        # What has to be looked at now, apart: who publishes the ten thousandth service does not pay for the others.
        self._wanted: dict[ServiceKey, tuple[Instance, ...]] = {}
        """What each service wants, as it was announced last."""
        self._due: dict[ServiceKey, float] = {}
        """When the services that have changed, or were refused, are to be announced."""
        self._marked: dict[ServiceKey, _Service] = {}
        """Those with instances on their way out."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    def start(self) -> None:
        """Begin to announce."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Announce no more."""
        await stop_tasks(self._task)

    # What callers want.

    def add(self, publication: Publication) -> None:
        """Want these instances to be in the registry. Raises `AlreadyPublished`."""
        service = self._services.setdefault(publication.service, _Service())
        for other in service.publications:
            if twice := other.ids & publication.ids:
                raise AlreadyPublished(
                    f"{publication.service} is already published here with the id {min(twice)!r}: "
                    "update that registration, or give another instance_id"
                )
        service.publications.append(publication)
        for name in publication.ids:
            service.leaving.pop(name, None)
        self._soil(publication.service)

    def replace(self, publication: Publication, instances: tuple[Instance, ...]) -> None:
        """Want these values from now on; the ids are the same. Raises `Closed` after a withdrawal."""
        if publication.gone is not None:
            raise Closed(f"the registration of {publication.service} was withdrawn: publish it again")
        publication.instances = instances
        publication.become(publication.state, settled=False)
        self._soil(publication.service)

    def withdraw(self, publication: Publication, *, told: bool = True) -> asyncio.Future[None]:
        """Want the instances to be gone; done once the registry confirmed it. Never undone by a recovery."""
        if publication.gone is not None:
            return publication.gone
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        publication.gone = done
        service = self._services.get(publication.service)
        if service is None or publication not in service.publications:
            done.set_result(None)
            return done
        service.publications.remove(publication)
        if told and self._backend.capabilities.announces_withdrawal:
            for one in publication.ours():
                service.leaving[one.instance_id] = _Leaving(msgspec.structs.replace(one, state="leaving"))
                self._marked[publication.service] = service
        publication.become("withdrawn")
        if publication.attempted:
            service.gone.append((publication.ids, done))
        else:
            done.set_result(None)
        self._soil(publication.service)
        return done

    def missing(self, services: Mapping[ServiceKey, frozenset[str]], reason: str) -> None:
        """The registry lost these instances of these services (no ids: any of them): publish them again."""
        for key, ids in services.items():
            service = self._services.get(key)
            if service is None:
                continue
            for publication in service.publications:
                concerned = ids & publication.ids if ids else publication.ids
                if publication.state == "live" and concerned:
                    publication.become("lost", Unavailable(reason), settled=False)
                    self._emit(RegistrationLost(key, tuple(concerned), reason))
            self._soil(key)

    def publications(self) -> list[Publication]:
        """All that is wanted."""
        return [one for service in self._services.values() for one in service.publications]

    def _soil(self, key: ServiceKey) -> None:
        self._services[key].attempts = 0
        self._due[key] = 0.0
        self._wake.set()

    # Making it true.

    async def _run(self) -> None:
        await self.ready.wait()
        while True:
            now = self._clock.monotonic()
            self._expire_marks(now)
            batch = [key for key, due in self._due.items() if due <= now]
            if batch:
                await self._announce(batch)
            else:
                await self._wait(now)

    def _expire_marks(self, now: float) -> None:
        for key, service in tuple(self._marked.items()):
            over = [name for name, one in service.leaving.items() if one.due is not None and one.due <= now]
            for name in over:
                del service.leaving[name]
                self._due[key] = 0.0
            if not service.leaving:
                del self._marked[key]

    async def _wait(self, now: float) -> None:
        """Until somebody wants something, or the next mark or retry is due."""
        marks = (one for service in self._marked.values() for one in service.leaving.values())
        dues = [*(one.due for one in marks if one.due is not None), *self._due.values()]
        self._wake.clear()
        alarm = asyncio.create_task(self._wake_in(max(0.0, min(dues) - now))) if dues else None
        try:
            await self._wake.wait()
        finally:
            # Who wants something does not wait for its end.
            if alarm is not None:
                alarm.cancel()

    async def _wake_in(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()

    async def _announce(self, batch: list[ServiceKey]) -> None:
        self._wanted |= {key: self._services[key].wanted() for key in batch}
        wanted = dict(self._wanted)
        sent: dict[ServiceKey, list[tuple[Publication, tuple[Instance, ...]]]] = {}
        marks = [one for key in batch for one in self._services[key].leaving.values()]
        for key in batch:
            service = self._services[key]
            del self._due[key]
            sent[key] = [(one, one.instances) for one in service.publications]
            for one in service.publications:
                one.attempted = True
        # Who withdraws from now on is not answered by this one: what it writes may be what is to be gone.
        gone = {key: tuple(self._services[key].gone) for key in batch}
        size = sum(len(wanted[key]) for key in batch)
        try:
            # One call time-out for each batch that the backend may make of it, and one to spare.
            async with bounded(self._pace.call_timeout * (2 + size // BATCH), "publishing"):
                errors = await self._backend.announce(Wanted(wanted), batch)
            self._failures = 0
            self._link.restored()
            due = self._clock.monotonic() + self._pace.leaving
            for mark in marks:
                mark.due = due if mark.due is None else mark.due
            self._settle(sent, errors, gone)
        except RegistryError as error:
            await self._failed(batch, error)
        except Exception as error:  # noqa: BLE001  a backend's bug must not end the keeper
            await self._failed(batch, defect(self._link.backend, "publishing", error))

    async def _failed(self, batch: list[ServiceKey], error: RegistryError) -> None:
        """Nothing can be said: all of it is made again, soon, for ever. Who publishes does not wait for a defect or a no."""
        self._failures += 1
        self._link.lost(error)
        # Those that were settled before a defect in the answer came to light may be gone.
        for key in [one for one in batch if one in self._services]:
            self._due.setdefault(key, 0.0)
            for publication in self._services[key].publications:
                if not publication.settled or publication.state != "live":
                    final = isinstance(error, BackendDefect | Denied)
                    was = publication.state
                    publication.become("lost" if final and was == "live" else was, error, settled=final)
        await self._clock.sleep(REACHABILITY.delay(self._failures))

    def _settle(
        self,
        sent: Mapping[ServiceKey, list[tuple[Publication, tuple[Instance, ...]]]],
        errors: Mapping[ServiceKey, RegistryError],
        gone: Mapping[ServiceKey, Sequence[_Gone]],
    ) -> None:
        for key, pairs in sent.items():
            error = errors.get(key)
            refusals = () if error is None else (error, *error.also)
            self._refused(key, refusals)
            for publication, instances in pairs:
                concerned = any(_concerns(one, publication) for one in refusals)
                if publication.gone is None and not concerned and publication.instances is instances:
                    self._succeeded(publication)
            if all(one.instance_ids for one in refusals):
                self._finish(key, gone[key], frozenset(name for one in refusals for name in one.instance_ids))
            if self._services[key].idle() and key not in self._due:
                del self._services[key], self._wanted[key]

    def _succeeded(self, publication: Publication) -> None:
        was = publication.state
        if was == "live" and publication.settled and publication.last_error is None:
            # Another one of the service was announced.
            return
        publication.become("live")
        if was != "live":
            self._emit(Published(publication.service, tuple(publication.ids)))

    def _finish(self, key: ServiceKey, gone: Sequence[_Gone], unsettled: frozenset[str]) -> None:
        """Tell those who wait for a withdrawal that the registry confirmed it."""
        service = self._services[key]
        open_ids = service.leaving.keys() | unsettled
        for ids, done in [one for one in gone if not one[0] & open_ids]:
            service.gone.remove((ids, done))
            if not done.done():
                done.set_result(None)
            self._emit(Withdrawn(key, tuple(ids)))

    def _refused(self, key: ServiceKey, refusals: Sequence[RegistryError]) -> None:
        if not refusals:
            return
        service = self._services[key]
        service.attempts += 1
        if key not in self._due:
            delay = min(_schedule(one).delay(service.attempts) for one in refusals)
            self._due[key] = self._clock.monotonic() + delay
        for error in refusals:
            for publication in service.publications:
                if _concerns(error, publication):
                    self._mark_refused(publication, error, first=service.attempts == 1)

    def _mark_refused(self, publication: Publication, error: RegistryError, *, first: bool) -> None:
        key, was = publication.service, publication.state
        if isinstance(error, Conflict):
            publication.become("conflict", error)
            if was != "conflict":
                logger.warning("%s: %s", key, error)
                self._emit(RegistrationConflict(key, tuple(publication.ids), str(error)))
            return
        settled = not isinstance(error, Unavailable)
        publication.become("lost" if was == "live" else was, error, settled=settled)
        if settled and first:
            logger.warning("%s is refused: %s", key, error)
            self._emit(RegistrationRefused(key, str(error)))


def _schedule(error: RegistryError) -> Schedule:
    if isinstance(error, Conflict):
        return CONFLICT
    return REACHABILITY if isinstance(error, Unavailable) else REFUSAL


def _concerns(error: RegistryError, publication: Publication) -> bool:
    return not error.instance_ids or bool(error.instance_ids & publication.ids)


def refusal(publication: Publication) -> RegistryError | None:
    """Why the registry said no, if it has."""
    error = publication.last_error
    if not publication.settled or publication.state == "live" or isinstance(error, Unavailable):
        return None
    return error if isinstance(error, RegistryError) else None


async def wait_live(publication: Publication, timeout: float) -> None:
    """Until the registry has the instances as they are wanted now. Raises what it said instead."""

    def decided() -> bool:
        return publication.settled

    try:
        async with asyncio.timeout(timeout):
            await publication.until(decided)
    except TimeoutError:
        cause = publication.last_error
        why = f": {cause}" if cause is not None else ""
        raise DeadlineExceeded(f"{publication.service} is not in the registry after {timeout:g} s{why}") from cause
    if (error := refusal(publication)) is not None:
        raise error
    if publication.state == "withdrawn":
        raise Closed(f"the registration of {publication.service} was withdrawn meanwhile")
