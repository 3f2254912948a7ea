"""Removing what is provably dead: an owned record whose owner is gone, or a permanent one that the user named.

What proves that an owner is gone, the store knows (`DiagnosableStore.dead`). A permanent record points to nothing when
every IP address of its host refuses a connection; silence proves nothing. What cannot be decoded is never removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sofa_registry_adapters.cli.doctor.examination import dead_among, new_store, removal
from sofa_registry_adapters.cli.doctor.findings import Removal
from sofa_registry_adapters.cli.doctor.reaching import reach
from sofa_registry_adapters.cli.doctor.records import Entry, read_entries
from sofa_registry_adapters.cli.doctor.setting import Setting
from sofa_registry_adapters.engine.reactor import bounded
from sofa_registry_adapters.engine.sources import read_sources
from sofa_registry_adapters.errors import Conflict, InvalidArgument, RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.store import (
    Bucket,
    ConditionalStore,
    RecordKey,
    RecordStore,
    StoreSnapshot,
)


class Name(NamedTuple):
    """A record that the user named."""

    service: ServiceKey
    record: str


class Outcome(NamedTuple):
    """What became of a record: removed, or why it was kept."""

    service: str
    record: str
    removed: bool
    why: str


def parse_name(text: str) -> Name:
    """``SERVICE/RECORD``. Raises `InvalidArgument`."""
    service, slash, record = text.rpartition("/")
    if not slash or not service or not record:
        raise InvalidArgument(f"--record takes SERVICE/RECORD, as doctor shows it, not {text!r}")
    return Name(ServiceKey.parse(service), record)


class Repair:
    """One visit to the registry to find, or to remove."""

    def __init__(self, setting: Setting, clock: Clock, timeout: float, *, here: bool) -> None:
        self._setting = setting
        self._clock = clock
        self._timeout = timeout
        self._here = here

    async def find(self, names: Sequence[Name]) -> tuple[list[Removal], list[Outcome]]:
        """Which of the named records may be removed, and why the others may not."""
        found: list[Removal] = []
        kept: list[Outcome] = []
        async with new_store(self._setting, self._clock) as store:
            await self._open(store)
            for name in names:
                entry = await self._entry(store, name.service, name.record)
                reason = await self._reason_to_keep(entry)
                if entry is None or reason:
                    kept.append(Outcome(str(name.service), name.record, removed=False, why=reason))
                else:
                    found.append(removal(name.service, entry, "named"))
        return found, kept

    async def remove(self, removals: Sequence[Removal]) -> list[Outcome]:
        """Remove each if it is still as it was shown, and still dead."""
        async with new_store(self._setting, self._clock) as store:
            await self._open(store)
            return [await self._remove(store, one) for one in removals]

    async def _open(self, store: RecordStore) -> None:
        async with bounded(self._timeout, "signing in"):
            await store.open()

    async def _remove(self, store: RecordStore, one: Removal) -> Outcome:
        try:
            kept = await self._try(store, one)
        except Conflict:
            kept = "it changed since it was shown"
        except RegistryError as error:
            kept = str(error)
        return Outcome(one.service, one.record, removed=not kept, why=kept or one.why)

    async def _try(self, store: RecordStore, one: Removal) -> str:
        """Why it is kept; empty if it was removed."""
        if not isinstance(store, ConditionalStore):
            return "this store cannot delete on the condition that nothing changed"
        entry = await self._entry(store, ServiceKey.parse(one.service), one.record)
        if entry is None:
            return "it is gone already"
        if entry.stored.revision != one.revision:
            return "it changed since it was shown"
        if one.kind == "named":
            reason = await self._reason_to_keep(entry)
        else:
            gone = await dead_among(store, [entry], self._timeout)
            reason = "" if gone else "its owner is back"
        if reason:
            return reason
        async with bounded(self._timeout, "deleting"):
            await store.compare_and_delete(RecordKey(one.bucket, one.record), one.revision)
        return ""

    async def _reason_to_keep(self, entry: Entry | None) -> str:
        """Why a record that the user named is kept all the same; empty if it points to nothing."""
        if entry is None:
            return "there is no such record"
        if entry.stored.owner != "none":
            return "it has an owner, which removes it"
        if entry.instance is None:
            return "it cannot be decoded, so nobody knows what it points to: delete it by hand"
        one = entry.instance
        outcome = (await reach([(one.host, one.port)], here=self._here))[one.host, one.port]
        said = {
            "refused": "",
            "open": f"{one.address} accepts connections",
            "not tried": f"{one.address} is an address to which doctor never connects, so nothing is proven",
        }
        return said.get(outcome, f"{one.address} gives no answer, which proves nothing")

    async def _entry(self, store: RecordStore, service: ServiceKey, name: str) -> Entry | None:
        async def read(bucket: Bucket) -> StoreSnapshot:
            async with bounded(self._timeout, "reading"):
                found = await store.read(bucket)
            return found if found is not None else StoreSnapshot(Revision())

        seen, _ = await read_sources(read, self._setting.layout, service)
        entries = read_entries(self._setting.layout, service, seen)
        return next((entry for entry in entries if entry.name == name), None)
