"""What is read and written in one transaction. All functions take a connection that has begun one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from sofa_registry_adapters.backends.local.owners import Owner
from sofa_registry_adapters.errors import Conflict, InvalidName, RegistryError
from sofa_registry_adapters.model.names import encode_segment
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, too_large

MAX_VALUE = 1_000_000
"""Bytes."""
KEPT_CHANGES = 50_000
"""Changes that stay in the log; a watch that is further behind gets a snapshot."""
_TRIM_EVERY = 2_000
_AFTER_SLASH = "0"

_PUT = (
    "INSERT INTO records (bucket, name, value, owner, revision) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (bucket, name) DO UPDATE SET value = excluded.value, revision = excluded.revision"
    " WHERE records.owner IS excluded.owner"
)
_REPLACE = (
    "INSERT INTO records (bucket, name, value, owner, revision) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (bucket, name) DO UPDATE SET value = excluded.value, owner = excluded.owner,"
    " revision = excluded.revision"
)
_FIND = "SELECT bucket, name, value, owner, revision FROM records WHERE bucket = ? AND name = ?"

Row = tuple[str, str, bytes | str, str | None, int]


class Names:
    """Buckets as the file has them: ``namespace/segment/segment/``, so that a prefix never has a neighbour."""

    def __init__(self, namespace: str) -> None:
        self._root = f"{encode_segment(namespace)}/"

    def text(self, path: tuple[str, ...]) -> str:
        """The bucket's text."""
        return self._root + "".join(f"{segment}/" for segment in path)

    def path(self, text: str) -> tuple[str, ...] | None:
        """The bucket that has this text; None if it is in another namespace."""
        if not text.startswith(self._root):
            return None
        return tuple(text[len(self._root) :].split("/")[:-1])

    def row(self, key: RecordKey) -> tuple[str, str]:
        """Where a record is, as the file has it."""
        return self.text(key.bucket), key.name


class Logged(NamedTuple):
    """The keys that changed, each with its latest change, up to ``counter``. None: too far back to tell."""

    keys: dict[RecordKey, int] | None
    counter: int


def counter(connection: sqlite3.Connection) -> int:
    """The number of the latest change."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return 0 if row is None else int(row[0])


def changes(connection: sqlite3.Connection, names: Names, since: int) -> Logged:
    """What changed after the change number ``since``."""
    latest = counter(connection)
    if latest == since:
        return Logged({}, latest)
    if latest < since or not _reaches(connection, since):
        return Logged(None, latest)
    keys: dict[RecordKey, int] = {}
    rows = connection.execute("SELECT bucket, name, revision FROM changes WHERE revision > ?", (since,))
    for bucket, name, revision in rows:
        path = names.path(bucket)
        if path is not None:
            keys[RecordKey(path, name)] = revision
    return Logged(keys, latest)


def has_changed(connection: sqlite3.Connection, names: Names, bucket: Bucket, since: int) -> bool:
    """Whether anything in the bucket changed after ``since``, as far as the log can tell."""
    latest = counter(connection)
    if latest == since:
        return False
    if latest < since or not _reaches(connection, since):
        return True
    where, values = _within(names, bucket)
    question = f"SELECT 1 FROM changes WHERE revision > ? AND {where} LIMIT 1"  # noqa: S608  a constant
    return connection.execute(question, (since, *values)).fetchone() is not None


def _reaches(connection: sqlite3.Connection, since: int) -> bool:
    oldest = connection.execute("SELECT min(revision) FROM changes").fetchone()[0]
    return oldest is not None and oldest <= since + 1


def _within(names: Names, bucket: Bucket) -> tuple[str, tuple[str, ...]]:
    text = names.text(bucket.path)
    if bucket.deep:
        return "bucket >= ? AND bucket < ?", (text, text[:-1] + _AFTER_SLASH)
    return "bucket = ?", (text,)


def read(connection: sqlite3.Connection, names: Names, bucket: Bucket, owner: str) -> tuple[Stored, ...]:
    """The records of a bucket, as ``owner`` sees them."""
    where, values = _within(names, bucket)
    rows = connection.execute(
        f"SELECT bucket, name, value, owner, revision FROM records WHERE {where}",  # noqa: S608  a constant
        values,
    )
    return tuple(_stored(rows, names, owner))


def find(connection: sqlite3.Connection, names: Names, keys: Iterable[RecordKey], owner: str) -> tuple[Stored, ...]:
    """Those of the records that are there, as ``owner`` sees them."""
    execute = connection.execute
    rows = (execute(_FIND, names.row(key)).fetchone() for key in keys)
    return tuple(_stored((row for row in rows if row is not None), names, owner))


def _stored(rows: Iterable[Row], names: Names, owner: str) -> Iterator[Stored]:
    paths: dict[str, tuple[str, ...]] = {}
    for bucket, name, value, holder, revision in rows:
        path = paths.get(bucket)
        if path is None:
            path = paths[bucket] = names.path(bucket) or ()
        # Another program may have written text.
        data = value if isinstance(value, bytes) else value.encode()
        record = Record(path, name, data, holder is not None)
        yield Stored(record, str(revision), _relation(holder, owner))


def _relation(holder: str | None, owner: str) -> Literal["mine", "other", "none"]:
    if holder is None:
        return "none"
    return "mine" if holder == owner else "other"


def below(connection: sqlite3.Connection, names: Names, parent: tuple[str, ...]) -> list[str]:
    """The names of the buckets right below ``parent``."""
    prefix = names.text(parent)
    end = prefix[:-1] + _AFTER_SLASH
    found: list[str] = []
    start = f"{prefix}\x01"
    while True:
        row = connection.execute(
            "SELECT bucket FROM records WHERE bucket >= ? AND bucket < ? ORDER BY bucket LIMIT 1", (start, end)
        ).fetchone()
        if row is None:
            return found
        segment = row[0][len(prefix) :].partition("/")[0]
        found.append(segment)
        start = f"{prefix}{segment}{_AFTER_SLASH}"


def check(record: Record) -> RegistryError | None:
    """Why a record cannot be written, whatever is there."""
    key = record.key
    problem = check_key(key)
    if problem is not None:
        return problem
    return too_large(record, MAX_VALUE)


def check_key(key: RecordKey) -> InvalidName | None:
    """Why no record can have this name."""
    for segment in (*key.bucket, key.name):
        if not segment or "/" in segment or "\0" in segment:
            return InvalidName(f"{shown(key)} has a name that is empty or has a '/' or NUL: encode it")
        try:
            segment.encode()
        except UnicodeEncodeError:
            return InvalidName(f"{shown(key)} has a name with an unpaired surrogate: encode it")
    return None


def shown(key: RecordKey) -> str:
    """A record's name for a message."""
    return f"the record {key.name!r} in {'/'.join(key.bucket)!r}"


class Writer:
    """Writes of one owner in one transaction. ``is_dead`` tells whether another owner's records count."""

    def __init__(
        self, connection: sqlite3.Connection, names: Names, owner: str, is_dead: Callable[[Owner], bool]
    ) -> None:
        self.dead: list[str] = []
        """Owners whose records were removed on the way."""
        self.settled: dict[RecordKey, bool] = {}
        """What was written or deleted, and whether it is this owner's now."""
        self.revision: int = counter(connection)
        self._connection = connection
        self._names = names
        self._owner = owner
        self._is_dead = is_dead
        self._judged: dict[str, bool] = {}

    def put(self, record: Record) -> str | RegistryError:
        """Write a record unless it is another owner's, or permanent where this one is not."""
        problem = check(record)
        if problem is not None:
            return problem
        if self._execute(_PUT, record):
            return str(self.revision)
        row = self._row(record.key)
        holder = None if row is None else row[3]
        if holder is not None and self._sweep(holder) and self._execute(_PUT, record):
            return str(self.revision)
        whose = "permanent" if holder is None else "another owner's"
        return Conflict(f"{shown(record.key)} is {whose}")

    def delete(self, keys: Sequence[RecordKey]) -> None:
        """Delete records, except other owners'."""
        self._connection.executemany(
            "DELETE FROM records WHERE bucket = ? AND name = ? AND (owner IS NULL OR owner = ?)",
            [(*self._names.row(key), self._owner) for key in keys],
        )
        self.settled.update(dict.fromkeys(keys, False))

    def compare_and_put(self, record: Record, expected: str | None) -> str:
        """Write a record whoever owns it. Raises `Conflict` and others."""
        problem = check(record)
        if problem is not None:
            raise problem
        self._compare(record.key, expected)
        self._execute(_REPLACE, record)
        return str(self.revision)

    def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        """Delete a record whoever owns it. Raises `Conflict`."""
        self._compare(key, expected)
        self._connection.execute("DELETE FROM records WHERE bucket = ? AND name = ?", self._names.row(key))
        self.settled[key] = False

    def _execute(self, statement: str, record: Record) -> bool:
        # The log counts each write: a number beyond it was never a revision.
        revision = self.revision + 1
        owner = self._owner if record.owned else None
        values = (*self._names.row(record.key), record.value, owner, revision)
        if self._connection.execute(statement, values).rowcount != 1:
            return False
        self.revision = revision
        self.settled[record.key] = record.owned
        return True

    def _compare(self, key: RecordKey, expected: str | None) -> None:
        row = self._row(key)
        if row is not None and str(row[4]) != expected and row[3] is not None and self._sweep(row[3]):
            row = self._row(key)
        found = None if row is None else str(row[4])
        if found != expected:
            raise Conflict(f"{shown(key)} is at the revision {found}, not {expected}")

    def _row(self, key: RecordKey) -> Row | None:
        row: Row | None = self._connection.execute(_FIND, self._names.row(key)).fetchone()
        return row

    def _sweep(self, holder: str) -> bool:
        if holder == self._owner:
            return False
        if holder not in self._judged:
            owner = owner_of(self._connection, holder)
            self._judged[holder] = owner is None or self._is_dead(owner)
            if self._judged[holder]:
                expel(self._connection, (holder,))
                self.dead.append(holder)
                self.revision = counter(self._connection)
        return self._judged[holder]


def owners(connection: sqlite3.Connection) -> list[Owner]:
    """All owners."""
    return [Owner(*row) for row in connection.execute("SELECT id, boot, expires FROM owners")]


def owner_of(connection: sqlite3.Connection, name: str) -> Owner | None:
    """One owner; None if there is none of that name."""
    row = connection.execute("SELECT id, boot, expires FROM owners WHERE id = ?", (name,)).fetchone()
    return None if row is None else Owner(*row)


def holder(connection: sqlite3.Connection, names: Names, key: RecordKey) -> str | None:
    """Who owns the record; None for a permanent one, and where there is none."""
    row = connection.execute(_FIND, names.row(key)).fetchone()
    return None if row is None or row[3] is None else str(row[3])


def orphans(connection: sqlite3.Connection) -> list[str]:
    """Names that own records although there is no such owner."""
    rows = connection.execute(
        "SELECT DISTINCT owner FROM records WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM owners)"
    )
    return [row[0] for row in rows]


def expel(connection: sqlite3.Connection, names: Sequence[str]) -> None:
    """Remove owners and all their records."""
    for name in names:
        connection.execute("DELETE FROM records WHERE owner = ?", (name,))
        connection.execute("DELETE FROM owners WHERE id = ?", (name,))


def trim(connection: sqlite3.Connection) -> None:
    """Shorten the log once it has grown enough to be worth it."""
    latest = counter(connection)
    oldest = connection.execute("SELECT min(revision) FROM changes").fetchone()[0]
    if oldest is not None and latest - oldest > KEPT_CHANGES + _TRIM_EVERY:
        connection.execute("DELETE FROM changes WHERE revision <= ?", (latest - KEPT_CHANGES,))
