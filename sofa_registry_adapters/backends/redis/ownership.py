"""What this owner has put, by bucket: names and revisions, to notice cheaply that one is gone, or older than it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sofa_registry_adapters.backends.redis.keys import Path
from sofa_registry_adapters.backends.redis.wire import State
from sofa_registry_adapters.spi.store import RecordKey


class Holding:
    """The records of one bucket, with their revisions.

    ``lost`` are names that are not there as they were written, ``strays`` those that are there though they were deleted: a server
    that comes back with older data, or a replica that takes over without the last writes, has both.
    """

    def __init__(self) -> None:
        self.revisions: dict[str, str] = {}
        self.lost: set[str] = set()
        self.strays: set[str] = set()
        self.writing = 0
        self.version: int = 0
        self._foreign: int | None = None
        self._cuts = -1
        self._settled: tuple[int, int, int, int] | None = None

    def keep(self, revisions: Mapping[str, str]) -> None:
        """These were written."""
        self.revisions.update(revisions)
        self.lost.difference_update(revisions)
        self.strays.difference_update(revisions)
        self.version += 1

    def drop(self, names: Collection[str]) -> None:
        """These are no concern any more."""
        for name in names:
            self.revisions.pop(name, None)
        self.lost.difference_update(names)
        self.strays.difference_update(names)
        self.version += 1

    def doubts(self, state: State, cuts: int) -> bool:
        """Whether the records have to be looked at one by one; ``cuts`` counts the connections that broke."""
        known = len(self.revisions)
        if (state.held, state.foreign, cuts) == (known, self._foreign, self._cuts):
            return False
        return self._settled != (state.held, state.foreign, known, cuts)

    def settle(self, state: State, present: Mapping[str, str], cuts: int) -> None:
        """The records that are there in truth; ``state`` was seen before that."""
        gone = {name for name, revision in self.revisions.items() if present.get(name) != revision}
        self.strays |= present.keys() - self.revisions.keys() - self.lost
        self.lost |= gone
        for name in gone:
            del self.revisions[name]
        self._foreign = state.foreign
        self._cuts = cuts
        self._settled = (state.held, state.foreign, len(self.revisions), cuts)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to keep alive or to report."""
        return not (self.revisions or self.lost or self.strays or self.writing)


class Holdings:
    """All of this owner's buckets. A bucket is in here before the first write to it is sent."""

    def __init__(self) -> None:
        self._holdings: dict[Path, Holding] = {}

    def of(self, path: Path) -> Holding:
        """The bucket's, made if need be."""
        return self._holdings.setdefault(path, Holding())

    def get(self, path: Path) -> Holding | None:
        """The bucket's, if there is one."""
        return self._holdings.get(path)

    def paths(self) -> Sequence[Path]:
        """The buckets with something of this owner's, or what may be."""
        return tuple(self._holdings)

    def forget(self, path: Path) -> None:
        """Nothing of this owner's is in the bucket."""
        self._holdings.pop(path, None)

    def missing(self) -> Collection[RecordKey]:
        """The records that are not as this owner left them, until they are put or deleted."""
        found = ((path, name) for path, holding in self._holdings.items() for name in (*holding.lost, *holding.strays))
        return [RecordKey(path, name) for path, name in found]

    def versions(self, paths: Iterable[Path]) -> Mapping[Path, int]:
        """What to compare with to know that nothing was written meanwhile."""
        return {path: holding.version for path in paths if (holding := self._holdings.get(path))}


class Rounds:
    """Which buckets a call looks at: all of them while they are few, half of them at least when they are many."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._last: dict[Path, None] = {}

    def turn(self, paths: Collection[Path], *, everything: bool) -> Sequence[Path]:
        """The buckets of this turn."""
        if everything or len(paths) <= self._at_once:
            self._last.clear()
            return tuple(paths)
        waiting = [path for path in paths if path not in self._last]
        chosen = waiting[: max(self._at_once, (len(paths) + 1) // 2)]
        if len(chosen) == len(waiting):
            self._last.clear()
        self._last.update(dict.fromkeys(chosen))
        return tuple(chosen)
