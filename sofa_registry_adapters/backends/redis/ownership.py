"""What this owner has put, by bucket: names only, to notice cheaply that one is gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sofa_registry_adapters.backends.redis.keys import Path
from sofa_registry_adapters.backends.redis.wire import State
from sofa_registry_adapters.spi.store import RecordKey


class Holding:
    """The records of one bucket."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lost: set[str] = set()
        self.writing = 0
        self.version: int = 0
        self._foreign: int | None = None
        self._settled: tuple[int, int, int] | None = None

    def keep(self, names: Iterable[str]) -> None:
        """These were written."""
        self.names.update(names)
        self.lost.difference_update(names)
        self.version += 1

    def drop(self, names: Collection[str]) -> None:
        """These are no concern any more."""
        self.names.difference_update(names)
        self.lost.difference_update(names)
        self.version += 1

    def doubts(self, state: State) -> bool:
        """Whether the names have to be looked at one by one."""
        known = len(self.names)
        if (state.held, state.foreign) == (known, self._foreign):
            return False
        return self._settled != (state.held, state.foreign, known)

    def settle(self, state: State, present: Collection[str]) -> None:
        """The names that are there in truth; ``state`` was seen before that."""
        gone = self.names.difference(present)
        self.lost |= gone
        self.names -= gone
        self._foreign = state.foreign
        self._settled = (state.held, state.foreign, len(self.names))

    @property
    def over(self) -> bool:
        """Whether there is nothing left to keep alive or to report."""
        return not (self.names or self.lost or self.writing)


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
        """The records that are known to be gone, until they are put or deleted."""
        return [RecordKey(path, name) for path, holding in self._holdings.items() for name in holding.lost]

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
