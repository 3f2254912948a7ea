"""sqlite3, in the same mode as ours: a write-ahead log, synchronous=NORMAL, one transaction a write.

The watch looks at ``PRAGMA data_version`` as often as ours does while there are changes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

from measuring.places import Place
from measuring.raw.client import RawClient
from sofa_registry_adapters.spi.store import Record

LOOK_EVERY = 0.02


class Raw(RawClient):
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection = _connect(f"{place.folder}/raw.db")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS records (bucket TEXT, name TEXT, value BLOB, PRIMARY KEY (bucket, name)) WITHOUT ROWID"
        )
        self._ended = threading.Event()

    def publish(self, one: Record) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO records VALUES (?, ?, ?)", ("raw", one.name, one.value))
        self._connection.execute("COMMIT")

    def watch(self, service: str, told: Callable[[], object]) -> None:
        def look() -> None:
            connection: Any = _connect(f"{self._place.folder}/registry.db")
            seen = None
            while not self._ended.wait(LOOK_EVERY):
                now = connection.execute("PRAGMA data_version").fetchone()[0]
                if seen not in (None, now):
                    connection.execute("SELECT * FROM changes ORDER BY revision DESC LIMIT 1").fetchall()
                    told()
                seen = now
            connection.close()

        threading.Thread(target=look, daemon=True).start()

    def snapshot(self, service: str) -> Sequence[bytes]:
        connection = _connect(f"{self._place.folder}/registry.db")
        try:
            found = connection.execute("SELECT value FROM records WHERE bucket = ?", (f"/services/{service}/",))
            return [value for (value,) in found]
        finally:
            connection.close()

    def write_all(self, records: Sequence[Record]) -> None:
        rows = [("raw", one.name, one.value) for one in records]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def clear(self) -> None:
        self._connection.execute("DELETE FROM records")

    def close(self) -> None:
        self._ended.set()
        self._connection.close()


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
