"""What is wrong with the records of a service. Nothing here does I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from sofa_registry_adapters.advertise import check_routable
from sofa_registry_adapters.cli.doctor.findings import Finding
from sofa_registry_adapters.errors import CorruptRecord, UnroutableAddress
from sofa_registry_adapters.layouts.native import NativeLayout, decode_instance
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.layout import Seen, ServiceLayout
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.spi.store import Stored

LEAVING = 60.0
"""Seconds after which a record that is marked as leaving should long be gone."""
NAMED = 5
ERRORS = frozenset(("misnamed", "undecodable", "loopback"))


class Entry(msgspec.Struct, frozen=True):
    """A record and what it says. ``problem`` is why it is not taken for an instance, though it should be one."""

    stored: Stored
    instance: Instance | None = None
    problem: str = ""
    misnamed: bool = False

    @property
    def name(self) -> str:
        """What the record is called in its bucket."""
        return self.stored.record.name


def read_entries(layout: ServiceLayout, service: ServiceKey, seen: Seen) -> list[Entry]:
    """The records of a service; those that the layout takes for something else are left out."""
    return [entry for stored in seen.values() if (entry := _entry(layout, service, stored, seen)) is not None]


def _entry(layout: ServiceLayout, service: ServiceKey, stored: Stored, seen: Seen) -> Entry | None:
    try:
        instance = layout.decode(service, stored, seen)
    except CorruptRecord as error:
        if isinstance(layout, NativeLayout):
            with contextlib.suppress(CorruptRecord):
                return Entry(stored, decode_instance(stored.record.value), str(error), misnamed=True)
        return Entry(stored, problem=str(error))
    except Exception as error:  # noqa: BLE001  a layout's bug is one record's, too
        return Entry(stored, problem=f"{type(error).__name__}: {error}")
    return None if instance is None else Entry(stored, instance)


class Judge:
    """What holds for all services of one registry. ``here`` is whether only this machine uses the registry."""

    def __init__(self, layout: ServiceLayout, target: Target, *, here: bool) -> None:
        self._own = isinstance(layout, NativeLayout)
        self._target = target
        self._here = here

    def findings(self, service: ServiceKey, entries: Sequence[Entry], dead: Collection[object]) -> Iterator[Finding]:
        """Everything that one look can tell."""
        for entry in entries:
            yield from self._of_one(service, entry, gone=entry.stored.key in dead)
        yield from same_id(service, entries)
        yield from nobody_up(service, entries)

    def _of_one(self, service: ServiceKey, entry: Entry, *, gone: bool) -> Iterator[Finding]:
        if entry.misnamed:
            advice = "Consumers leave it out: correct the program that wrote it."
            yield about("misnamed", service, entry, entry.problem, advice)
        elif entry.problem:
            advice = "Consumers leave it out: find out who wrote it, and delete it if nobody needs it."
            yield about("undecodable", service, entry, entry.problem, advice)
        if self._own and entry.stored.owner == "none":
            what = f"the record {entry.name!r} has no owner: it stays when its instance ends"
            advice = f"If nothing runs there, sofa-registry doctor --fix --record '{service}/{entry.name}' removes it."
            if entry.instance is None:
                advice = "Nobody but you can remove it."
            yield about("no-owner", service, entry, what, advice)
        if gone:
            what = f"the record {entry.name!r} belongs to an owner that is gone"
            yield about("owner-gone", service, entry, what, "sofa-registry doctor --fix removes it.")
        if entry.instance is not None and not self._here:
            yield from self._unroutable(service, entry, entry.instance)

    def _unroutable(self, service: ServiceKey, entry: Entry, instance: Instance) -> Iterator[Finding]:
        try:
            check_routable((instance,), self._target)
        except UnroutableAddress:
            what = f"{instance.address} is another machine for everybody who reads it, and the registry is elsewhere"
            advice = (
                "Let its publisher give an address that others reach: publish(port=…), or set SOFA_REGISTRY_ADVERTISE."
            )
            yield about("loopback", service, entry, what, advice)


def same_id(service: ServiceKey, entries: Iterable[Entry]) -> Iterator[Finding]:
    """Several records that say that they are one instance."""
    by_id: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.instance is not None:
            by_id.setdefault(entry.instance.instance_id, []).append(entry)
    for name, group in by_id.items():
        if len(group) > 1:
            shown = ", ".join(sorted(repr(one.name) for one in group)[:NAMED])
            what = f"{len(group)} records have the same id {name!r}: {shown}"
            advice = "Consumers see one of them: give each publisher an id of its own."
            yield Finding(
                severity="error", step="records", code="same-id", what=what, advice=advice, service=str(service)
            )


def nobody_up(service: ServiceKey, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Instances, but none that takes a call."""
    up = [one.instance for one in entries if one.instance is not None and one.instance.state == "up"]
    if up and not any(one.enabled and one.weight for one in up):
        count = "its one instance is" if len(up) == 1 else f"all its {len(up)} instances are"
        advice = "Consumers send nothing: update one with enabled=True and a weight above 0."
        what = f"{count} disabled or of weight 0"
        yield Finding(
            severity="warning",
            step="records",
            code="all-disabled",
            what=what,
            advice=advice,
            service=str(service),
        )


def leaving(entries: Iterable[Entry]) -> dict[object, str]:
    """The records that are marked as leaving, by key, with their revisions."""
    return {
        entry.stored.key: entry.stored.revision
        for entry in entries
        if entry.instance is not None and entry.instance.state == "leaving"
    }


def still_leaving(service: ServiceKey, entries: Iterable[Entry], before: dict[object, str]) -> Iterator[Finding]:
    """Those that were leaving `LEAVING` seconds ago, and are unchanged."""
    for entry in entries:
        if before.get(entry.stored.key) == entry.stored.revision:
            what = f"the record {entry.name!r} has been leaving for longer than a minute"
            advice = "Its publisher hangs between marking and deleting it: end that process."
            yield about("leaving", service, entry, what, advice)


def about(code: str, service: ServiceKey, entry: Entry, what: str, advice: str) -> Finding:
    """A finding about one record; an error if consumers cannot use it."""
    return Finding(
        severity="error" if code in ERRORS else "warning",
        step="records",
        code=code,
        what=what,
        advice=advice,
        service=str(service),
        record=entry.name,
    )
