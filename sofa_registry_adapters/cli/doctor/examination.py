"""The examination: all steps in order, on one store that is opened and closed again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, cast

import msgspec

from sofa_registry_adapters.cli.doctor import access, network
from sofa_registry_adapters.cli.doctor.findings import Finding, Removal, Report, Stop
from sofa_registry_adapters.cli.doctor.network import Endpoint
from sofa_registry_adapters.cli.doctor.reaching import is_loopback, reach
from sofa_registry_adapters.cli.doctor.records import (
    LEAVING,
    Entry,
    Judge,
    about,
    leaving,
    read_entries,
    still_leaving,
)
from sofa_registry_adapters.cli.doctor.setting import Setting, read_setting
from sofa_registry_adapters.engine.reactor import bounded
from sofa_registry_adapters.engine.sources import read_sources
from sofa_registry_adapters.errors import RegistryError, Unsupported
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.settings import redacted
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.diagnosis import DiagnosableStore
from sofa_registry_adapters.spi.store import Bucket, RecordKey, RecordStore, StoreSnapshot

CLOSE_WITHIN = 2.5


class Wish(msgspec.Struct, frozen=True):
    """What is to be examined: these services, or all without a name; ``probe`` connects to instances, too.

    ``timeout`` bounds each exchange, in seconds; ``leaving`` is how long one may be leaving. ``tell`` is called with
    a sentence before a wait that the user would wonder about.
    """

    url: str | None = None
    services: Sequence[ServiceKey] = ()
    probe: bool = False
    timeout: float = 5.0
    leaving: float = LEAVING
    tell: Callable[[str], object] = str

    def __repr__(self) -> str:
        # An URL may have a password in it.
        return f"<Wish {redacted(self.url) if self.url else 'without a URL'}>"


async def examine(wish: Wish, clock: Clock) -> Report:
    """Take the steps, as far as each makes sense."""
    report = Report()
    try:
        await _examine(wish, clock, report)
    except Stop as stop:
        report.findings.append(stop.finding)
        report.passed(stop.finding.step, "see below")
    return report


async def _examine(wish: Wish, clock: Clock, report: Report) -> None:
    setting = read_setting(wish.url)
    report.url = str(setting.target)
    report.findings += setting.warnings
    report.passed("settings", f"{setting.target} from {setting.origin}, layout {setting.layout.name}")
    endpoints = await _reach_servers(setting, report, wish.timeout)
    if not setting.backend.store:
        what = f"{setting.target.scheme}:// is no store: doctor cannot look at what it has"
        raise Stop(Finding(severity="note", step="login", code="no-store", what=what))
    async with new_store(setting, clock) as store:
        await access.sign_in(setting, store, endpoints, report, wish.timeout)
        unread = await access.check_reading(setting, store, wish.timeout)
        seen = await access.probe(setting, store, clock, wish.timeout)
        access.judge_permission(setting, unread, seen, report)
        access.judge_version(seen, report, unread=unread is not None)
        access.judge_clock(seen, report)
        report.here = all(is_loopback(one.ip) for one in endpoints)
        report.proof = proof_of(store)
        await Records(setting, store, wish, here=report.here).examine(clock, report)


async def _reach_servers(setting: Setting, report: Report, timeout: float) -> list[Endpoint]:
    if not setting.target.addresses:
        return []
    endpoints = await network.find_names(setting, report, timeout)
    endpoints = await network.find_ports(setting, endpoints, report, timeout)
    await network.check_tls(setting, endpoints, report, timeout)
    return endpoints


@contextlib.asynccontextmanager
async def new_store(setting: Setting, clock: Clock) -> AsyncIterator[RecordStore]:
    """A store that is yet to be opened, and closed whatever happens."""
    store = cast("RecordStore", cast("Any", setting.make)(setting.target, clock))
    try:
        yield store
    finally:
        with contextlib.suppress(RegistryError):
            async with bounded(CLOSE_WITHIN, "closing"):
                await store.close()


class Records:
    """The last step: the records of each service. ``here`` is whether only this machine uses the registry."""

    def __init__(self, setting: Setting, store: RecordStore, wish: Wish, *, here: bool) -> None:
        self._layout = setting.layout
        self._store = store
        self._wish = wish
        self._here = here
        self._judge = Judge(setting.layout, setting.target, here=here)
        self._count = 0

    async def examine(self, clock: Clock, report: Report) -> None:
        """Look at all of them, and a second time at those that are leaving."""
        services = await self._services(report)
        going: dict[ServiceKey, dict[object, str]] = {}
        for service in services:
            entries = await self._entries(service, report)
            self._count += len(entries)
            await self._look(service, entries, report)
            if marked := leaving(entries):
                going[service] = marked
        if going:
            count = sum(map(len, going.values()))
            self._wish.tell(f"{_count(count, 'record')} leaving, to be looked at again in {self._wish.leaving:g} s")
            await clock.sleep(self._wish.leaving)
            for service, marked in going.items():
                report.findings += still_leaving(service, await self._entries(service, report), marked)
        report.passed("records", f"{_count(self._count, 'record')} of {_count(len(services), 'service')}")

    async def _services(self, report: Report) -> Sequence[ServiceKey]:
        if self._wish.services:
            return self._wish.services
        try:
            async with bounded(self._wish.timeout, "listing services"):
                names = await access.list_services(self._store, self._layout)
        except Unsupported as error:
            what = f"{error}: only services that are named with --service are looked at"
            report.findings.append(Finding(severity="note", step="records", code="no-list", what=what))
            return ()
        except RegistryError as error:
            raise Stop(_failed(error)) from None
        known = {name: self._layout.service_of(name) for name in sorted(names)}
        for name, service in known.items():
            if service is None:
                what = f"the bucket {name!r} stands among the services, and no service can have that name"
                report.findings.append(Finding(severity="note", step="records", code="foreign-bucket", what=what))
        return [service for service in known.values() if service is not None]

    async def _entries(self, service: ServiceKey, report: Report) -> list[Entry]:
        try:
            seen, _ = await read_sources(self._read, self._layout, service)
        except RegistryError as error:
            report.findings.append(_failed(error, str(service)))
            return []
        return read_entries(self._layout, service, seen)

    async def _read(self, bucket: Bucket) -> StoreSnapshot:
        async with bounded(self._wish.timeout, "reading"):
            found = await self._store.read(bucket)
        return found if found is not None else StoreSnapshot(Revision())

    async def _look(self, service: ServiceKey, entries: list[Entry], report: Report) -> None:
        if not entries and service in self._wish.services:
            what = "it has no record: nobody publishes it here"
            note = Finding(severity="note", step="records", code="no-record", what=what, service=str(service))
            report.findings.append(note)
        dead = await dead_among(self._store, entries, self._wish.timeout)
        report.removable += [removal(service, entry, "owner gone") for entry in entries if entry.stored.key in dead]
        report.findings += self._judge.findings(service, entries, dead)
        if self._wish.probe:
            report.findings += await self._unreachable(service, entries)

    async def _unreachable(self, service: ServiceKey, entries: Sequence[Entry]) -> list[Finding]:
        pointing = [(entry, entry.instance) for entry in entries if entry.instance is not None]
        outcomes = await reach([(one.host, one.port) for _, one in pointing], here=self._here)
        found: list[Finding] = []
        for entry, one in pointing:
            outcome = outcomes[one.host, one.port]
            if outcome in ("open", "not tried"):
                continue
            said = {
                "refused": f"{one.address} refuses connections: nothing listens there",
                "no answer": f"{one.address} gave no answer to a connection attempt",
                "no address": f"no address is known for the host of {one.address}",
            }[outcome]
            advice = "Look at that instance, and at the way from this machine to it."
            found.append(about(outcome.replace(" ", "-"), service, entry, said, advice))
        return found


def proof_of(store: RecordStore) -> str:
    """When an owner is certainly gone, in the store's own words."""
    return store.proof if isinstance(store, DiagnosableStore) else "never: this store cannot tell"


async def dead_among(store: RecordStore, entries: Sequence[Entry], timeout: float) -> Collection[RecordKey]:
    """The owned records whose owner the store knows to be gone; none where it cannot tell."""
    owned = [entry.stored.key for entry in entries if entry.stored.owner == "other"]
    if not owned or not isinstance(store, DiagnosableStore):
        return ()
    try:
        async with bounded(timeout, "asking for owners"):
            return frozenset(await store.dead(owned))
    except RegistryError:
        return ()


def removal(service: ServiceKey, entry: Entry, kind: str) -> Removal:
    """What is to be known to remove a record, and nothing that came after it."""
    key = entry.stored.key
    if kind == "owner gone":
        return Removal(str(service), key.bucket, key.name, entry.stored.revision, "its owner is gone", "owner gone")
    where = entry.instance.address if entry.instance is not None else ""
    why = f"it has no owner, and {where} refuses connections"
    return Removal(str(service), key.bucket, key.name, entry.stored.revision, why, "named")


def _failed(error: RegistryError, service: str = "") -> Finding:
    what = f"the records cannot be read: {error}"
    return Finding(severity="error", step="records", code="unread", what=what, service=service)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
