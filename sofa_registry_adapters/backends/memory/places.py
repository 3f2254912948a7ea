"""Where a space keeps its records: a tree of places that knows when each was changed last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey


class Entry(NamedTuple):
    """A record with its revision; ``owner`` is None for a permanent one."""

    record: Record
    revision: str
    owner: str | None


class _Place:
    __slots__ = ("below", "changed", "changed_below", "entries")

    def __init__(self, changed: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.below: dict[str, _Place] = {}
        self.changed = changed
        self.changed_below = changed

    def __iter__(self) -> Iterator[Entry]:
        yield from self.entries.values()
        for place in self.below.values():
            yield from place


class Places:
    """Records by place. Empty places are forgotten, so that names that come and go cost nothing."""

    def __init__(self) -> None:
        self._root = _Place(0)
        self._forgotten = 0

    def get(self, key: RecordKey) -> Entry | None:
        """The record at ``key``."""
        place = self._find(key.bucket)
        return None if place is None else place.entries.get(key.name)

    def set(self, entry: Entry, counter: int) -> None:
        """Put a record in its place; ``counter`` is the number of this change."""
        place = self._root
        place.changed_below = counter
        for segment in entry.record.bucket:
            # What this place was before it was forgotten changed no later than that.
            place = place.below.setdefault(segment, _Place(self._forgotten))
            place.changed_below = counter
        place.changed = counter
        place.entries[entry.record.name] = entry

    def remove(self, key: RecordKey, counter: int) -> None:
        """Take away the record at ``key``, which is there."""
        trail = [self._root]
        for segment in key.bucket:
            trail.append(trail[-1].below[segment])
        for place in trail:
            place.changed_below = counter
        trail[-1].changed = counter
        del trail[-1].entries[key.name]
        for parent, segment, place in zip(trail[-2::-1], key.bucket[::-1], trail[:0:-1], strict=True):
            if place.entries or place.below:
                break
            del parent.below[segment]
            self._forgotten = counter

    def read(self, bucket: Bucket) -> list[Entry]:
        """The records of a bucket."""
        place = self._find(bucket.path)
        if place is None:
            return []
        return list(place) if bucket.deep else list(place.entries.values())

    def changed(self, bucket: Bucket) -> int:
        """The number of the bucket's latest change, or a later number; never an earlier one."""
        place = self._find(bucket.path)
        if place is None:
            return self._forgotten
        return place.changed_below if bucket.deep else place.changed

    def below(self, path: tuple[str, ...]) -> list[str]:
        """The names right below ``path``."""
        place = self._find(path)
        return [] if place is None else list(place.below)

    def _find(self, path: tuple[str, ...]) -> _Place | None:
        place: _Place | None = self._root
        for segment in path:
            if place is None:
                return None
            place = place.below.get(segment)
        return place
