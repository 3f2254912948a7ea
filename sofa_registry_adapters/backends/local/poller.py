"""The thread that makes watches of other processes' writes, and notices owners that died.

SQLite tells nobody of a change, but ``PRAGMA data_version`` says for 2 µs that there was one (measured):
only then the log is read. A write of this process wakes the thread, so that it waits for nothing.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from sofa_registry_adapters.backends.local import records
from sofa_registry_adapters.backends.local.database import Busy, Database
from sofa_registry_adapters.backends.local.owners import Owner, Vigil, remove
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.spi.store import Bucket, RecordKey
from sofa_registry_adapters.spi.worker import started

LOOK_EVERY = 0.05
"""Seconds between two looks for changes while something is watched; waking up costs more than looking."""
LOOK_SOON = 0.02
"""The same while there are changes: they come in bursts."""
CALM_AFTER = 1.0
CHECK_EVERY = 0.5
"""Seconds between two looks whether the file is the same still."""
PROBE_EVERY = 0.1
"""Seconds between two looks for dead owners."""
PROBED = 16
"""Owners that one look probes at most, at random: all processes look, so that none is missed for long."""

_UNKNOWN = (-1, -1)


class Watch:
    """The keys of a bucket that changed and were not taken yet. ``wake`` is called from the poller's thread."""

    def __init__(self, bucket: Bucket, counter: int, wake: Callable[[], None]) -> None:
        self.bucket = bucket
        self.counter: int = counter
        self._wake = wake
        self._lock = threading.Lock()
        self._keys: dict[RecordKey, int] | None = {}
        self._reached = counter
        self._cut: RegistryError | None = None

    def tell(self, keys: dict[RecordKey, int] | None, reached: int) -> None:
        """Add changes; None: too many to know."""
        with self._lock:
            self._reached = max(self._reached, reached)
            if keys is None or self._keys is None:
                self._keys = None
            else:
                self._keys.update((key, when) for key, when in keys.items() if when > self.counter)
            idle = self._keys is not None and not self._keys
        if not idle:
            self._wake()

    def cut(self, error: RegistryError) -> None:
        """Let `take` raise."""
        self._cut = error
        self._wake()

    def take(self) -> tuple[list[RecordKey] | None, int]:
        """What changed up to which number; None for the keys: read all. Raises what cut the watch."""
        with self._lock:
            if self._cut is not None:
                raise self._cut
            keys, self._keys = self._keys, {}
            self.counter = self._reached
            return (None if keys is None else list(keys)), self._reached


class Poller:
    """One thread, begun when it is first needed, asleep while there is nothing to look for."""

    def __init__(self, database: Database, names: records.Names, vigil: Vigil, me: Callable[[], str]) -> None:
        self._database = database
        self._names = names
        self._vigil = vigil
        self._me = me
        self._lock = threading.Lock()
        # A lock that is released to wake the thread: an Event costs twice as much for each wait.
        self._news = threading.Lock()
        self._news.acquire()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._holds = False
        self._exact: dict[tuple[str, ...], list[Watch]] = {}
        self._deep: list[Watch] = []
        self._position: int | None = None
        self._fresh = False
        self._version = _UNKNOWN
        self._owners: list[Owner] | None = None
        self._probed = self._checked = self._moved = 0.0
        self._failure: RegistryError | None = None

    def add(self, watch: Watch) -> None:
        """Begin to tell a watch of what comes after its counter. Raises `Unavailable` if there is no thread for it."""
        with self._lock:
            if self._stopped:
                watch.cut(Unavailable("the store was closed"))
                return
            place = self._deep if watch.bucket.deep else self._exact.setdefault(watch.bucket.path, [])
            place.append(watch)
            # What came after the watch was read, but before it was added, is told again.
            self._position = watch.counter if self._position is None else min(self._position, watch.counter)
            self._fresh = True
        self._begin()

    def remove(self, watch: Watch) -> None:
        """End a watch; it may have ended before."""
        with self._lock:
            if watch in self._deep:
                self._deep.remove(watch)
            path = watch.bucket.path
            if not watch.bucket.deep and watch in self._exact.get(path, ()):
                self._exact[path].remove(watch)
                if not self._exact[path]:
                    del self._exact[path]

    def attend(self) -> None:
        """Look for dead owners from now on: this store has records. Raises `Unavailable` if there is no thread for it."""
        if not self._holds or self._thread is None:
            self._holds = True
            self._begin()

    def wake(self) -> None:
        """Look for changes now."""
        with contextlib.suppress(RuntimeError):
            self._news.release()

    def stop(self, error: RegistryError) -> None:
        """End the thread and all watches. Does not wait."""
        self._stopped = True
        self.cut(error)
        self.wake()

    def cut(self, error: RegistryError) -> None:
        """End all watches."""
        with self._lock:
            watches = tuple(self._watches())
            self._exact.clear()
            self._deep.clear()
            self._position = None
            self._failure = error
        for watch in watches:
            watch.cut(error)

    def failure(self) -> RegistryError | None:
        """What cut the watches since this was asked last."""
        failure, self._failure = self._failure, None
        return failure

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name="sofa-registry local", daemon=True)
                # Whoever needs it next tries again if there is none to be had.
                self._thread = started(thread)
        self.wake()

    def _run(self) -> None:
        while True:
            self._news.acquire(timeout=self._pause())
            if self._stopped:
                break
            try:
                self._look()
            except Busy:
                self._version = _UNKNOWN
            except RegistryError as error:
                self._version = _UNKNOWN
                self.cut(error)
            except Exception as error:  # noqa: BLE001  a watch must not end in silence
                self._version = _UNKNOWN
                self.cut(Unavailable(f"the local store cannot look for changes: {error!r}"))
        self._database.close()

    def _pause(self) -> float:
        if self._exact or self._deep:
            return LOOK_SOON if time.monotonic() - self._moved < CALM_AFTER else LOOK_EVERY
        return PROBE_EVERY if self._holds else -1

    def _look(self) -> None:
        self._vigil.touch()
        now = time.monotonic()
        if now - self._checked >= CHECK_EVERY:
            self._checked = now
            self._database.check()
        version = self._database.glance(self._look_at)
        moved, self._version = version != self._version, version
        if moved:
            self._owners = None
        with self._lock:
            if not self._exact and not self._deep:
                self._position = None
            since = self._position
            fresh, self._fresh = self._fresh, False
        if since is not None and (moved or fresh):
            self._tell(since)
        if now - self._probed >= PROBE_EVERY:
            self._probed = now
            self._probe()

    def _look_at(self, connection: sqlite3.Connection) -> tuple[int, int]:
        # Another connection counts from another number.
        return self._database.generation, int(connection.execute("PRAGMA data_version").fetchone()[0])

    def _tell(self, since: int) -> None:
        logged = self._database.read(lambda one: records.changes(one, self._names, since))
        if logged.counter != since:
            self._moved = time.monotonic()
        with self._lock:
            if self._position is None or self._position < since:
                return
            self._position = logged.counter
            told = list(self._share(logged))
        for watch, keys in told:
            watch.tell(keys, logged.counter)

    def _share(self, logged: records.Logged) -> Iterator[tuple[Watch, dict[RecordKey, int] | None]]:
        if logged.keys is None:
            yield from ((watch, None) for watch in self._watches())
            return
        shares: defaultdict[Watch, dict[RecordKey, int]] = defaultdict(dict)
        for key, when in logged.keys.items():
            for watch in self._exact.get(key.bucket, ()):
                shares[watch][key] = when
            for watch in self._deep:
                if watch.bucket.holds(key):
                    shares[watch][key] = when
        yield from shares.items()

    def _watches(self) -> Iterable[Watch]:
        for watches in self._exact.values():
            yield from watches
        yield from self._deep

    # Dead owners.

    def _probe(self) -> None:
        if self._owners is None:
            self._owners = self._database.read(records.owners)
        me = self._me()
        others = [owner for owner in self._owners if owner.id != me]
        sample = others if len(others) <= PROBED else random.sample(others, PROBED)
        over = [owner for owner in others if self._vigil.is_over(owner)]
        if over or any(self._vigil.is_gone(owner) for owner in sample):
            self._sweep([owner for owner in others if self._vigil.is_dead(owner)])

    def _sweep(self, suspects: Iterable[Owner]) -> None:
        sweep(self._database, self._vigil, suspects)
        # The connection that wrote is the one that does not see it.
        self._owners = None
        self._fresh = True
        self.wake()


def sweep(database: Database, vigil: Vigil, suspects: Iterable[Owner]) -> None:
    """Remove owners that are dead still when nobody else can write, with their records."""
    names = [owner.id for owner in suspects]

    def remove_dead(connection: sqlite3.Connection) -> list[str]:
        found = (records.owner_of(connection, name) for name in names)
        dead = [owner.id for owner in found if owner is not None and vigil.is_dead(owner)]
        records.expel(connection, dead)
        return dead

    for name in database.write(remove_dead) if names else ():
        remove(vigil.folder, name)
