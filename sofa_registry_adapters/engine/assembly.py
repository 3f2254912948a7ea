"""From records to instances: decoding what changed, once, and never letting one bad record cost the list."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from sofa_registry_adapters.errors import CorruptRecord
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.layout import Seen, ServiceLayout
from sofa_registry_adapters.spi.registry import Patch, Rejected, Snapshot
from sofa_registry_adapters.spi.store import RecordKey, Stored

CHUNK = 250
"""Records decoded before the loop gets a turn: some 5 ms."""


class Assembly:
    """The decoded records of one service. Ids are unique: of two records with one id, the later start wins."""

    def __init__(self, layout: ServiceLayout, service: ServiceKey, before: Assembly | None = None) -> None:
        """``before``: another assembly of the service, whose last good values count here, too."""
        self._layout = layout
        self._service = service
        self.since: Revision | None = None
        """What the records were brought in step with by the messages of a watch; None while that is not certain."""
        self.good: dict[RecordKey, Instance] = before.good if before is not None else {}
        self._key_of: dict[str, RecordKey] = {}
        self._shadowed: set[RecordKey] = set()

    async def reset(self, seen: Seen, revision: Revision) -> Snapshot:
        """Start again from all records; one that cannot be decoded keeps what it said before."""
        before, self.good, self._key_of, self._shadowed = self.good, {}, {}, set()
        try:
            rejected = await self._fill(seen, before)
        except BaseException:
            # Cut short in the midst of it: what was not reached yet is remembered all the same.
            self.good = before | self.good
            raise
        instances = tuple(map(self.good.__getitem__, self._key_of.values()))
        return Snapshot(revision, instances, tuple(rejected))

    async def _fill(self, seen: Seen, before: Mapping[RecordKey, Instance]) -> list[Rejected]:
        rejected: list[Rejected] = []
        for position, (key, stored) in enumerate(seen.items()):
            if position % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            count = len(rejected)
            instance = self._decode(stored, seen, rejected)
            if instance is None and len(rejected) > count:
                instance = before.get(key)
            if instance is not None:
                self._place(key, instance)
        return rejected

    async def apply(self, changed: Seen, removed: Iterable[RecordKey], revision: Revision) -> Patch:
        """Apply what changed in the records."""
        rejected: list[Rejected] = []
        touched: dict[str, None] = {}
        for position, (key, stored) in enumerate(changed.items()):
            if position % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            count = len(rejected)
            instance = self._decode(stored, changed, rejected)
            if instance is not None:
                touched.update(dict.fromkeys(self._take(key)))
                touched.update(dict.fromkeys(self._place(key, instance)))
            elif len(rejected) == count:
                touched.update(dict.fromkeys(self._take(key)))
        for key in removed:
            touched.update(dict.fromkeys(self._take(key)))
        present = [self.good[self._key_of[name]] for name in touched if name in self._key_of]
        gone = tuple(name for name in touched if name not in self._key_of)
        return Patch(revision, tuple(present), gone, tuple(rejected))

    def _decode(self, stored: Stored, seen: Seen, rejected: list[Rejected]) -> Instance | None:
        try:
            return self._layout.decode(self._service, stored, seen)
        except CorruptRecord as error:
            rejected.append(Rejected(stored.record.name, str(error)))
        except Exception as error:  # noqa: BLE001  a layout's bug must not cost the list either
            rejected.append(Rejected(stored.record.name, f"{type(error).__name__}: {error}"))
        return None

    def _place(self, key: RecordKey, instance: Instance) -> tuple[str, ...]:
        name = instance.instance_id
        other = self._key_of.get(name)
        self.good[key] = instance
        if other is not None and other != key:
            if self.good[other].started > instance.started:
                self._shadowed.add(key)
                return ()
            self._shadowed.add(other)
        self._key_of[name] = key
        return (name,)

    def _take(self, key: RecordKey) -> tuple[str, ...]:
        instance = self.good.pop(key, None)
        if instance is None:
            return ()
        if key in self._shadowed:
            self._shadowed.discard(key)
            return ()
        name = instance.instance_id
        del self._key_of[name]
        others = [other for other in self._shadowed if self.good[other].instance_id == name]
        if others:
            latest = max(others, key=lambda other: self.good[other].started)
            self._shadowed.discard(latest)
            self._key_of[name] = latest
        return (name,)
