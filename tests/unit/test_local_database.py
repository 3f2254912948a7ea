"""Connections to the file of the local backend."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from sofa_registry_adapters.backends.local.database import Database
from sofa_registry_adapters.backends.local.place import Place
from sofa_registry_adapters.errors import Unavailable

DESCRIPTORS = Path("/proc/self/fd")


pytestmark = pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="there is no /proc here that lists open files")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    place = Place(str(tmp_path / "registry.db"))
    place.prepare()
    place.create()
    database = Database(place, 0.5)
    database.plain(lambda one: one.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)"))
    assert _open(tmp_path)
    return database


def test_an_error_that_is_kept_keeps_no_files(database: Database, tmp_path: Path) -> None:
    def break_off(connection: sqlite3.Connection) -> None:
        cursor = connection.execute("SELECT a FROM t")
        cursor.fetchone()
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(Unavailable) as kept:
        database.plain(break_off)
    database.close()
    assert not _open(tmp_path), kept


def test_a_connection_that_is_closed_while_it_is_used_is_closed_afterwards(database: Database, tmp_path: Path) -> None:
    def use(connection: sqlite3.Connection) -> int:
        database.close()
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])

    assert database.read(use) == 3
    assert not _open(tmp_path)
    assert database.glance(use) == 3
    assert not _open(tmp_path)


def _open(folder: Path) -> list[str]:
    links = (DESCRIPTORS / name for name in os.listdir(DESCRIPTORS))  # noqa: PTH208  the folder changes while it is read
    return [
        str(link.readlink()) for link in links if link.is_symlink() and str(link.readlink()).startswith(str(folder))
    ]
