"""The frame for stores of blocking calls that can write on condition, under the contract of stores: records in a SQLite file."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec
import pytest

from sofa_registry_adapters.errors import Conflict, RegistryError
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.blocking import BlockingConditionalStore
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, StoreSnapshot
from sofa_registry_adapters.testing.store_contract import StoreContract

T = TypeVar("T")
SCHEMA = """
create table if not exists records (place text primary key, owner text, revision text, record blob);
create table if not exists counter (value integer);
insert into counter select 0 where not exists (select 1 from counter);
"""


class TableStore(BlockingConditionalStore):
    """A table of records; nothing in it dies with its owner, but what is closed."""

    capabilities: ClassVar[Capabilities] = Capabilities(push=False, lease=False, liveness="none", persistent=True)
    failures: ClassVar = (sqlite3.Error,)
    batch: ClassVar[int] = 500

    def __init__(self, file: Path) -> None:
        super().__init__(f"the table in {file}")
        self._file = file

    def connect(self) -> None:
        self._opened = sqlite3.connect(self._file, isolation_level=None)
        self._opened.executescript(SCHEMA)
        self._owner = uuid.uuid4().hex
        self._held: set[RecordKey] = set()

    def disconnect(self) -> None:
        for key in tuple(self._held):
            self.remove(key)
        self._opened.close()

    def write(self, record: Record) -> str:
        found = self._find(record.key)
        if found is not None and found.owner != ("mine" if record.owned else "none"):
            raise Conflict(f"{record.name!r} belongs to somebody else")
        return self._store(record)

    def write_all(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        return self._atomic(lambda: super(TableStore, self).write_all(records))

    def remove(self, key: RecordKey) -> None:
        found = self._find(key)
        if found is not None and found.owner != "other":
            self._erase(key)
        self._held.discard(key)

    def write_if(self, record: Record, expected: str | None) -> str:
        def change() -> str:
            self._demand(record.key, expected)
            return self._store(record)

        return self._atomic(change)

    def remove_if(self, key: RecordKey, expected: str) -> None:
        def change() -> None:
            self._demand(key, expected)
            self._erase(key)
            self._held.discard(key)

        self._atomic(change)

    def keep_alive(self) -> Collection[RecordKey]:
        return {key for key in self._held if (found := self._find(key)) is None or found.owner != "mine"}

    def load(self, bucket: Bucket, known: Revision | None) -> StoreSnapshot:
        [counter] = self._opened.execute("select value from counter").fetchone()
        rows = self._opened.execute("select owner, revision, record from records")
        found = [self._stored(*row) for row in rows]
        return StoreSnapshot(Revision("", counter), [one for one in found if bucket.holds(one.key)])

    def _atomic(self, work: Callable[[], T]) -> T:
        # A refusal is raised before anything of its own was written.
        self._opened.execute("begin immediate")
        try:
            return work()
        finally:
            self._opened.execute("commit")

    def _demand(self, key: RecordKey, expected: str | None) -> None:
        found = self._find(key)
        if (found.revision if found is not None else None) != expected:
            raise Conflict(f"{key.name!r} is not at the revision {expected}")

    def _find(self, key: RecordKey) -> Stored | None:
        query = "select owner, revision, record from records where place = ?"
        row = self._opened.execute(query, ("/".join((*key.bucket, key.name)),)).fetchone()
        return None if row is None else self._stored(*row)

    def _stored(self, owner: str, revision: str, record: bytes) -> Stored:
        decoded = msgspec.msgpack.decode(record, type=Record)
        return Stored(decoded, revision, "mine" if owner == self._owner else "other" if owner else "none")

    def _store(self, record: Record) -> str:
        place, revision = "/".join((*record.bucket, record.name)), uuid.uuid4().hex
        owner = self._owner if record.owned else ""
        row = (place, owner, revision, msgspec.msgpack.encode(record))
        self._opened.execute("insert or replace into records values (?, ?, ?, ?)", row)
        self._opened.execute("update counter set value = value + 1")
        if record.owned:
            self._held.add(record.key)
        return revision

    def _erase(self, key: RecordKey) -> None:
        self._opened.execute("delete from records where place = ?", ("/".join((*key.bucket, key.name)),))
        self._opened.execute("update counter set value = value + 1")


class TestTableStore(StoreContract):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> Callable[[], TableStore]:
        return lambda: TableStore(tmp_path / "records.db")
