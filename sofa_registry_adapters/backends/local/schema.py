"""The tables, and how a file is made, checked and refused.

Triggers write the log of changes, so that an edit by any other program is seen as well.
"""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

from sofa_registry_adapters.backends.local.database import corrupt
from sofa_registry_adapters.errors import Unsupported

APPLICATION = 0x534F4641
"""``SOFA``, in the file's header."""
VERSION = 1

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE owners (
    id TEXT PRIMARY KEY, pid INTEGER NOT NULL, boot TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE records (
    bucket TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, owner TEXT, revision INTEGER NOT NULL,
    PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
CREATE INDEX records_of_owner ON records (owner) WHERE owner IS NOT NULL;
CREATE TABLE changes (
    revision INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, name TEXT NOT NULL, op TEXT NOT NULL
);
"""
_LOG = (
    "CREATE TRIGGER record_{event} AFTER {event} ON records BEGIN "
    "INSERT INTO changes (bucket, name, op) VALUES ({row}.bucket, {row}.name, '{op}'); END"
)
_EVENTS = (("INSERT", "NEW", "put"), ("UPDATE", "NEW", "put"), ("DELETE", "OLD", "delete"))


def prepare(connection: sqlite3.Connection, path: Path) -> str:
    """Make the tables in an empty file, or check those of an existing one; the file's epoch.

    Only one process at a time may call it. Raises `CorruptStore`, `Unsupported` or sqlite3.Error.
    """
    application, version, tables = (
        int(connection.execute(question).fetchone()[0])
        for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if (application, version, tables) == (0, 0, 0):
        _create(connection, path)
    elif application != APPLICATION:
        raise corrupt(path, "it is an SQLite database of another program")
    elif version > VERSION:
        raise Unsupported(
            f"{path} has the format {version}, this version of the library knows {VERSION}: "
            "update the library, or name another file in the URL"
        )
    else:
        _check(connection, path)
    epoch = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
    if epoch is None:
        raise corrupt(path, "it has no epoch")
    return str(epoch[0])


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise corrupt(path, str(found))
    _use_log(connection, path)


def _create(connection: sqlite3.Connection, path: Path) -> None:
    _use_log(connection, path)
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    for event, row, op in _EVENTS:
        connection.execute(_LOG.format(event=event, row=row, op=op))
    connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (uuid.uuid4().hex,))
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise Unsupported(
            f"{path} is on a file system where SQLite has no write-ahead log (it says {mode!r}): "
            "name a file on a local disk in the URL"
        )
