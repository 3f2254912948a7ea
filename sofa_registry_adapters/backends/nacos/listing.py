"""What a service's list said last, and what a newer one changes: Nacos sends whole lists, the engine wants changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from sofa_registry_adapters.backends.nacos.instances import Listed, listed
from sofa_registry_adapters.backends.nacos.names import service_key, service_name
from sofa_registry_adapters.errors import InvalidName
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.registry import Rejected

CHUNK = 500
"""Entries that are decoded in one turn of the event loop."""


class ServiceInfo(msgspec.Struct, rename="camel"):
    """A list as the server sends it. The entries stay as they are until somebody needs them."""

    hosts: list[msgspec.Raw] = []
    last_ref_time: int = 0


class Step(msgspec.Struct):
    """What one list changed."""

    changed: list[Instance] = []
    removed: list[str] = []
    rejected: list[Rejected] = []

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed or self.rejected)


class Listing:
    """The entries of one service's newest list.

    An entry whose bytes were seen in the list before is not decoded again, so a change costs what it changes and a few milliseconds for ten
    thousand entries. Several entries may have one id: two publishers of it, then the one that started last counts.
    """

    def __init__(self) -> None:
        # Entries by the hash of their bytes, which takes a tenth of the memory: two that differ agree in it once in 10^19.
        self._entries: dict[int, Listed] = {}
        self._by_id: dict[str, set[int]] = {}
        self._shown: dict[str, Instance] = {}

    @property
    def instances(self) -> Sequence[Instance]:
        """What the list says, one instance for each id."""
        return tuple(self._shown.values())

    async def take(self, hosts: Sequence[msgspec.Raw]) -> Step:
        """Replace the list, and tell what that changed."""
        found = {hash(bytes(host)): host for host in hosts}
        touched: dict[str, None] = {}
        step = Step()
        for gone in self._entries.keys() - found.keys():
            entry = self._entries.pop(gone)
            self._by_id[entry.instance_id].discard(gone)
            touched[entry.instance_id] = None
        for number, new in enumerate([one for one in found if one not in self._entries]):
            if number % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            entry = listed(found[new])
            self._entries[new] = entry
            self._by_id.setdefault(entry.instance_id, set()).add(new)
            touched[entry.instance_id] = None
            if entry.instance is None:
                step.rejected.append(Rejected(entry.instance_id, entry.reason))
        for name in touched:
            self._settle(name, step)
        return step

    def _settle(self, name: str, step: Step) -> None:
        entries = [self._entries[one] for one in self._by_id[name]]
        if not entries:
            del self._by_id[name]
            if self._shown.pop(name, None) is not None:
                step.removed.append(name)
            return
        best = max(entries, key=lambda entry: entry.rank).instance
        # One that cannot be read any more keeps its last good value.
        if best is not None and best != self._shown.get(name):
            self._shown[name] = best
            step.changed.append(best)


def service_of(name: str, hosts: Sequence[msgspec.Raw]) -> ServiceKey | None:
    """The service that has this name and this list; None if the list is empty, or tells no key with this name."""
    if not hosts:
        return None
    key = service_key(name)
    if key is None and (text := listed(hosts[0]).service):
        # Anybody may write that entry: what cannot be read costs the others nothing.
        with contextlib.suppress(InvalidName):
            key = ServiceKey.parse(text)
    return key if key is not None and service_name(key) == name else None


def newest(hosts: Sequence[msgspec.Raw]) -> dict[str, Listed]:
    """The entry that counts for each id."""
    found: dict[str, Listed] = {}
    for host in hosts:
        entry = listed(host)
        if entry.instance_id not in found or entry.rank > found[entry.instance_id].rank:
            found[entry.instance_id] = entry
    return found
