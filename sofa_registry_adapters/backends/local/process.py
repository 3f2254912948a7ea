"""What this process has open: its owners, its connections, its pollers; and what becomes of them in a fork.

SQLite keeps, for each file, one account of the locks of a process. A forked child inherits the account
but not the locks: a connection of its own would believe that it holds what it does not hold, and what it
writes can be lost when the parent closes (measured). So the connections of this process are closed for
the moment of a fork, and opened again by whoever uses them next.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Protocol

QUIET_WITHIN = 1.0
"""Seconds that a fork waits at most for what is under way."""


class Closable(Protocol):
    """A connection that can be closed at any moment while ``lock`` is held, and opens itself again."""

    lock: threading.Lock

    @property
    def connected(self) -> bool:
        """Whether it is open now."""
        ...

    def drop(self) -> None:
        """Close it; the caller holds ``lock``."""
        ...


class Wakeable(Protocol):
    """Something that looks for changes when it is woken."""

    def wake(self) -> None:
        """Look now."""
        ...


class Process:
    """The open things of one process. Safe to use from any thread."""

    def __init__(self, *, tainted: bool = False) -> None:
        self.pid: int = os.getpid()
        self.tainted = tainted
        """Whether SQLite inherited an account of locks that this process does not hold."""
        self.opening: threading.Lock = threading.Lock()
        """One at a time opens the lock file that makes openings of other processes wait."""
        self._lock = threading.Lock()
        self._owners: dict[str, int] = {}
        self._databases: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._pollers: dict[Path, list[Wakeable]] = {}
        self._forking = threading.Lock()
        self._held: list[Closable] = []
        self._forkers: dict[int, bool] = {}
        self._kept: tuple[object, ...] = ()

    def add_owner(self, owner: str, descriptor: int) -> None:
        """Note that an owner lives here, by the descriptor that holds its lock."""
        with self._lock:
            self._owners[owner] = descriptor

    def drop_owner(self, owner: str) -> int | None:
        """Forget an owner; its descriptor if it lived here."""
        with self._lock:
            return self._owners.pop(owner, None)

    def has_owner(self, owner: str) -> bool:
        """Whether an owner lives here. Its lock file must not be opened then: closing it again drops the lock."""
        with self._lock:
            return owner in self._owners

    def add_database(self, database: Closable) -> None:
        """Note a connection that a fork has to close."""
        with self._lock:
            self._databases.add(database)

    def add_poller(self, path: Path, poller: Wakeable) -> None:
        """Let `wake` reach a poller."""
        with self._lock:
            self._pollers.setdefault(path, []).append(poller)

    def drop_poller(self, path: Path, poller: Wakeable) -> None:
        """Take `add_poller` back."""
        with self._lock:
            pollers = self._pollers.get(path, [])
            if poller in pollers:
                pollers.remove(poller)
            if not pollers:
                self._pollers.pop(path, None)

    def wake(self, path: Path) -> None:
        """Tell the pollers of a file that this process has changed it."""
        with self._lock:
            pollers = tuple(self._pollers.get(path, ()))
        for poller in pollers:
            poller.wake()

    # Around a fork.

    def hush(self) -> None:
        """Close all connections and keep them closed until `resume`."""
        thread = threading.get_ident()
        deadline = time.monotonic() + QUIET_WITHIN
        self._forkers[thread] = False
        if not self._forking.acquire(timeout=QUIET_WITHIN):
            return
        with self._lock:
            databases = tuple(self._databases)
        for database in databases:
            if database.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                self._held.append(database)
                database.drop()
        self._forkers[thread] = True

    def resume(self) -> None:
        """Let the connections be opened again."""
        if self._forkers.pop(threading.get_ident(), False):
            held, self._held = self._held, []
            for database in held:
                database.lock.release()
            self._forking.release()

    def heir(self) -> Process:
        """What a forked child starts with. Nothing inherited is closed, except copies of lock descriptors."""
        # The destructor of an inherited connection would write to the parent's files.
        self._kept = tuple(self._databases)
        open_still = any(database.connected for database in self._databases)
        for descriptor in self._owners.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        return Process(tainted=self.tainted or open_still)


class _Holder:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Process | None = None
        self._inherited: list[Process] = []
        self._hooked = False

    def here(self) -> Process:
        current = self._current
        if current is not None and current.pid == os.getpid():
            return current
        with self._lock:
            if self._current is None:
                self._current = Process()
            elif self._current.pid != os.getpid():
                self._inherit(self._current)
            if not self._hooked:
                self._hooked = True
                os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)
            return self._current

    def _inherit(self, former: Process) -> None:
        self._inherited.append(former)
        self._current = former.heir()

    def _before(self) -> None:
        if self._current is not None:
            self._current.hush()

    def _in_parent(self) -> None:
        if self._current is not None:
            self._current.resume()

    def _in_child(self) -> None:
        self._lock = threading.Lock()
        if self._current is not None:
            self._inherit(self._current)


_HOLDER = _Holder()


def here() -> Process:
    """The open things of this process; a forked child starts with none."""
    return _HOLDER.here()
