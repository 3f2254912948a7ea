"""Connections to the file: short transactions, bounded waits, errors of this library."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sofa_registry_adapters.backends.local.place import Identity, Place
from sofa_registry_adapters.errors import CorruptStore, Denied, Refused, RegistryError, Unavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_BUSY_TIMEOUT = 0.1
"""Seconds that SQLite may wait inside C, where nothing can interrupt it; a fork waits for it."""
_PAUSE = 0.02
_BUSY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
_DENIED = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN))
_CORRUPT = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))


class Busy(Unavailable):
    """Somebody else held the database for as long as this call could wait."""


class Replaced(Unavailable):
    """The file was deleted, or is another one now."""


class DiskFull(Refused):
    """There is no room to write; nothing was written."""


class Database:
    """One connection, opened when it is used and whenever it was closed. One call at a time.

    ``patience`` is how long a call waits for other processes, in seconds of real time.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self.lock: threading.Lock = threading.Lock()
        self.epoch: str = ""
        self.generation: int = 0
        """How often a connection was opened."""
        self.stopped = False
        """Whether calls give up instead of waiting."""
        self._identity: Identity | None = None
        self._place = place
        self.patience = patience
        self._connection: sqlite3.Connection | None = None
        self._ended = False

    @property
    def connected(self) -> bool:
        """Whether a connection is open now."""
        return self._connection is not None

    def drop(self) -> None:
        """Close the connection; the caller holds ``lock``. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def use(self, identity: Identity | None, epoch: str) -> None:
        """From now on use this file, which has this epoch; any other one is `Replaced`."""
        with self.lock:
            self.drop()
            self._ended = False
            self._identity = identity
            self.epoch = epoch

    def close(self) -> None:
        """Close the connection, or let the call that uses it at this moment do so when it is done. Never raises."""
        self._ended = True
        if self.lock.acquire(blocking=False):
            try:
                self.drop()
            finally:
                self.lock.release()

    def read(self, work: Work[T]) -> T:
        """What ``work`` returns, called in one read transaction."""
        return self._patiently("BEGIN", work)

    def write(self, work: Work[T]) -> T:
        """What ``work`` returns; what it wrote is there as a whole, or not at all if this raises."""
        answer = self._patiently("BEGIN IMMEDIATE", work)
        # A file that was replaced meanwhile took what was written with it.
        self.check()
        return answer

    def plain(self, work: Work[T]) -> T:
        """What ``work`` returns, called outside a transaction."""
        return self._patiently("", work)

    def glance(self, work: Work[T]) -> T:
        """`plain` without the question whether the file is the same still; `check` asks it."""
        try:
            with self.lock:
                return work(self._connected())
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            self._close_if_ended()

    def _close_if_ended(self) -> None:
        if self._ended:
            self.close()

    def _patiently(self, begin: str, work: Work[T]) -> T:
        try:
            return self._retried(begin, work)
        finally:
            self._close_if_ended()

    def _retried(self, begin: str, work: Work[T]) -> T:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with self.lock:
                    return self._once(begin, work)
            except sqlite3.Error as error:
                translated = self._translated(error)
                if not isinstance(translated, Busy) or self.stopped or time.monotonic() >= deadline:
                    raise translated from error
            time.sleep(random.uniform(0.0, _PAUSE))  # noqa: S311  no secret, only spread

    def _translated(self, error: sqlite3.Error) -> RegistryError:
        # Whoever keeps the error, in a log or a state, would keep its frames, their cursors, and so the files of a closed connection.
        traceback.clear_frames(error.__traceback__)
        return translate(error, self._place.path)

    def _once(self, begin: str, work: Work[T]) -> T:
        self.check()
        connection = self._connected()
        try:
            if begin:
                connection.execute(begin)
            answer = work(connection)
            if begin:
                connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        return answer

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._place.path)
            self.generation += 1
        return self._connection

    def check(self) -> None:
        """Raise `Replaced` if the file is not the same still."""
        if self._identity is not None and self._place.identity() != self._identity:
            raise Replaced(
                f"{self._place.path} was deleted or replaced while it was in use: "
                "what this process publishes is written again into the new file"
            )


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that exists. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode=rw",
        uri=True,
        timeout=_BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
    except BaseException:
        connection.close()
        raise
    return connection


def translate(error: sqlite3.Error, path: Path) -> RegistryError:
    """What an error of SQLite means to the user."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return Replaced(f"{path} was moved or deleted while it was in use")
    if primary in _BUSY:
        return Busy(f"{path} is locked by another process: {error}. If it stays so, look for who holds it")
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull(f"the disk of {path} is full: nothing was written. Make room on it")
    if primary in _CORRUPT or "no such table" in str(error) or "no such column" in str(error):
        return corrupt(path, str(error))
    if primary in _DENIED and not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK)):
        return Denied(f"{path} cannot be used: {error}. The file, its folder and {path.name}-wal must be writable")
    return Unavailable(f"{path} cannot be used: {error}")


def corrupt(path: Path, detail: str) -> CorruptStore:
    """What to say of a damaged file."""
    return CorruptStore(
        f"{path} is damaged or no database of this library ({detail}). Nothing was overwritten. "
        f"Move it away together with {path.name}-wal and {path.name}-shm, and a new one is made"
    )
