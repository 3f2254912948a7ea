"""What this owner holds: its records, the sessions they live in, and which of them are in doubt."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from sofa_registry_adapters.backends.zookeeper.session import Session
from sofa_registry_adapters.backends.zookeeper.wire import Stat
from sofa_registry_adapters.spi.store import RecordKey


class Holding:
    """One owned record. ``stat`` is None until the server confirmed that it was written."""

    __slots__ = ("key", "path", "session", "size", "stat")

    def __init__(self, key: RecordKey, path: str, session: Session) -> None:
        self.key: RecordKey = key
        self.path: str = path
        self.session: Session = session
        # Four bytes of length a path, in the transaction that closes the session.
        self.size: int = len(path.encode()) + 4
        self.stat: Stat | None = None


class Ledger:
    """Own records by key. Entered before they are written, since the outcome of a write may stay unknown."""

    def __init__(self) -> None:
        self._holdings: dict[RecordKey, Holding] = {}
        self._keys: dict[str, RecordKey] = {}
        self._used: dict[Session, int] = {}
        self._written: Counter[RecordKey] = Counter()
        self.doubted: dict[RecordKey, int] = {}
        """Each with the number of its last doubt."""
        self.doubts: int = 0
        """How many there were: the number of the last one."""
        self.missing: dict[RecordKey, None] = {}

    def clear(self) -> None:
        """Nothing is held any more, and nothing is missing."""
        for content in (self._holdings, self._keys, self._used, self.doubted, self.missing):
            content.clear()

    def get(self, key: RecordKey) -> Holding | None:
        """The record, if it is held."""
        return self._holdings.get(key)

    def used(self, session: Session) -> int:
        """Bytes of the paths in a session."""
        return self._used.get(session, 0)

    def claim(self, key: RecordKey, path: str, session: Session) -> Holding:
        """A record that is about to be written."""
        holding = self._holdings.get(key)
        if holding is None:
            holding = self._holdings[key] = Holding(key, path, session)
            self._keys[path] = key
            self._used[session] = self.used(session) + holding.size
        return holding

    @contextlib.contextmanager
    def writing(self, keys: Iterable[RecordKey]) -> Iterator[None]:
        """While a write of these records is under way, nothing about them can be concluded."""
        written = tuple(keys)
        self._written.update(written)
        try:
            yield
        finally:
            for key in written:
                self._written[key] -= 1
                if not self._written[key]:
                    del self._written[key]

    def is_written(self, key: RecordKey) -> bool:
        """Whether a write of the record is under way."""
        return key in self._written

    def confirm(self, key: RecordKey, path: str, session: Session, stat: Stat) -> None:
        """A record that was written, or found to be ours.

        What is doubted stays so: its deletion may have been told after the answer that is heard now.
        """
        holding = self.claim(key, path, session)
        if holding.session is not session:
            self._used[holding.session] = self.used(holding.session) - holding.size
            self._used[session] = self.used(session) + holding.size
            holding.session = session
        holding.stat = stat
        self.missing.pop(key, None)

    def drop(self, key: RecordKey) -> None:
        """A record that was deleted, or refused."""
        self.missing.pop(key, None)
        self._forget(key)

    def lose(self, key: RecordKey) -> None:
        """A record that is gone, or somebody else's. One that was never confirmed is its writer's business."""
        holding = self._forget(key)
        if holding is not None and holding.stat is not None:
            self.missing[key] = None

    def lose_session(self, session: Session) -> None:
        """All records of a session that was replaced."""
        for holding in [each for each in self._holdings.values() if each.session is session]:
            self.lose(holding.key)
        self._used.pop(session, None)

    def _forget(self, key: RecordKey) -> Holding | None:
        self.doubted.pop(key, None)
        holding = self._holdings.pop(key, None)
        if holding is not None:
            self._keys.pop(holding.path, None)
            self._used[holding.session] = self.used(holding.session) - holding.size
        return holding

    def doubt_path(self, path: str) -> None:
        """The node at the path was deleted by somebody."""
        key = self._keys.get(path)
        if key is not None:
            self.doubts += 1
            self.doubted[key] = self.doubts

    def doubt_all(self) -> None:
        """Anything may have happened."""
        self.doubts += 1
        self.doubted.update(dict.fromkeys(self._holdings, self.doubts))

    def in_doubt(self) -> Sequence[Holding]:
        """The confirmed records to look at."""
        found = (self._holdings.get(key) for key in self.doubted)
        return [holding for holding in found if holding is not None and holding.stat is not None]

    def settle(self, holdings: Iterable[Holding], doubts: int) -> None:
        """These were looked at, after so many doubts. Later ones stay: the look may have missed what raised them."""
        for holding in holdings:
            if self.doubted.get(holding.key, doubts) <= doubts:
                self.doubted.pop(holding.key, None)
