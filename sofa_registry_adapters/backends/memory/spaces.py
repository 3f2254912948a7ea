"""A space: what a registry's server is elsewhere, inside this process, with the faults a test wants.

Several stores, on any threads, share a space. Nothing in it waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from sofa_registry_adapters.backends.memory.places import Entry, Places
from sofa_registry_adapters.backends.memory.sessions import Feed, Session, stored
from sofa_registry_adapters.errors import Conflict, RegistryError, Unavailable
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, StorePatch, StoreSnapshot, too_large

CAPABILITIES = Capabilities(shared=False, detects_loss_within=1.0)
Verb = Literal[
    "open",
    "close",
    "put",
    "delete",
    "renew",
    "read",
    "watch",
    "buckets",
    "compare_and_put",
    "compare_and_delete",
]


class Space:
    """Records of all owners, their leases and watches. Safe to use from any thread."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        """Calls so far, by verb, refused ones included."""
        self.delay: float = 0.0
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._feeds: dict[Bucket, list[Feed]] = {}
        self._changes: dict[RecordKey, Entry | None] = {}
        self._enrolled = 0
        self._blocked: set[str] = set()
        self._blocked_all = False
        self._start_epoch()

    # What a test breaks.

    def expire(self, owner: str) -> None:
        """Let the lease of ``owner`` be over: its records vanish. Its next `renew` or put begins another."""
        with self._change():
            self._expire(owner)

    def expire_all(self) -> None:
        """Let every lease be over."""
        with self._change():
            owners = {entry.owner for entry in self._places.read(Bucket((), deep=True))}
            for owner in (*self._sessions, *owners):
                if owner is not None:
                    self._expire(owner)

    def partition(self, owner: str | None = None) -> None:
        """Cut everyone off, or the store that is or was ``owner``: calls and watches raise `Unavailable`."""
        with self._lock:
            self._blocked_all |= owner is None
            if owner is not None:
                self._blocked.add(_store_of(owner))
            self._cut(lambda session: self._is_blocked(session.owner))

    def heal(self) -> None:
        """End every partition."""
        with self._lock:
            self._blocked_all = False
            self._blocked.clear()

    def wipe(self) -> None:
        """Lose all records, of all owners, and begin another epoch; watches get a fresh snapshot."""
        with self._lock:
            for session in self._sessions.values():
                session.lost |= session.held
                session.held.clear()
            self._start_epoch()
            for feed in self._all_feeds():
                feed.refresh()

    def slow(self, seconds: float) -> None:
        """Make each call take so long, by the caller's clock; 0 ends it."""
        self.delay = seconds

    def delete_behind(self, key: RecordKey) -> None:
        """Delete a record behind its owner's back."""
        with self._change():
            self._remove(key)

    def write_behind(self, record: Record, owner: str = "foreign") -> None:
        """Write any record, as ``owner`` if it is owned, whoever has it now."""
        with self._change():
            self._write(record, owner if record.owned else None)

    def peek(self, key: RecordKey) -> Entry | None:
        """What is at ``key``, partition or not."""
        with self._change():
            return self._places.get(key)

    def is_orphan(self, key: RecordKey) -> bool:
        """Whether the owner of the record at ``key`` is not in this space any more."""
        entry = self.peek(key)
        return entry is not None and entry.owner is not None and entry.owner not in self._sessions

    # What a store asks for.

    def enroll(self) -> str:
        """A name for a store that no other store has in this space."""
        with self._lock:
            self._enrolled += 1
            return f"store-{self._enrolled}"

    def check(self, owner: str, verb: Verb) -> None:
        """Count a call. Raises `Unavailable` in a partition."""
        with self._lock:
            self.operations[verb] += 1
            self._demand(owner)

    def join(self, owner: str, clock: Clock, lease: float) -> Session:
        """A new owner."""
        with self._change():
            self._demand(owner)
            session = self._sessions[owner] = Session(owner, clock, lease)
            return session

    def leave(self, session: Session) -> None:
        """End an owner and its watches; in a partition its records stay until the lease is over."""
        with self._change():
            self.operations["close"] += 1
            self._cut(lambda other: other is session)
            # Nobody hears a good-bye through a partition.
            if not self._is_blocked(session.owner):
                self._expire(session.owner)

    def put(self, session: Session, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        """`RecordStore.put`."""
        with self._turn(session):
            self._revive(session)
            return {record.key: self._put(session, record) for record in records}

    def delete(self, session: Session, keys: Sequence[RecordKey]) -> None:
        """`RecordStore.delete`; nothing is ever refused."""
        with self._turn(session):
            for key in keys:
                session.lost.discard(key)
                entry = self._places.get(key)
                if entry is not None and entry.owner in (None, session.owner):
                    session.held.discard(key)
                    self._remove(key)

    def renew(self, session: Session) -> frozenset[RecordKey]:
        """`RecordStore.renew`."""
        with self._turn(session):
            self._revive(session)
            session.touch()
            return frozenset(session.lost)

    def read(self, session: Session, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        """`RecordStore.read`."""
        with self._turn(session):
            if known is not None and known.epoch == self._epoch and known.counter <= self._counter:
                unchanged = self._places.changed(bucket) <= known.counter
            else:
                unchanged = False
            return None if unchanged else self._snapshot(session, bucket)

    def compare_and_put(self, session: Session, record: Record, expected: str | None) -> str:
        """`ConditionalStore.compare_and_put`."""
        with self._turn(session):
            if refusal := too_large(record, CAPABILITIES.max_value_bytes):
                raise refusal
            self._compare(record.key, expected)
            self._revive(session)
            session.held.discard(record.key)
            session.lost.discard(record.key)
            return self._write(record, session.owner if record.owned else None)

    def compare_and_delete(self, session: Session, key: RecordKey, expected: str) -> None:
        """`ConditionalStore.compare_and_delete`."""
        with self._turn(session):
            self._compare(key, expected)
            session.held.discard(key)
            session.lost.discard(key)
            self._remove(key)

    def buckets(self, session: Session, parent: tuple[str, ...]) -> Sequence[str]:
        """`ListableStore.buckets`."""
        with self._turn(session):
            return self._places.below(parent)

    def subscribe(self, feed: Feed) -> None:
        """Begin a watch."""
        with self._turn(feed.session):
            self._feeds.setdefault(feed.bucket, []).append(feed)

    def unsubscribe(self, feed: Feed) -> None:
        """End a watch; it may have ended before."""
        with self._lock:
            feeds = self._feeds.get(feed.bucket, [])
            if feed in feeds:
                feeds.remove(feed)
            if not feeds:
                self._feeds.pop(feed.bucket, None)

    def take(self, feed: Feed) -> StoreSnapshot | StorePatch | None:
        """The next message of a watch, None if there is none. Raises what cut it."""
        with self._change():
            if feed.cut is not None:
                raise feed.cut
            if feed.stale:
                feed.stale = False
                return self._snapshot(feed.session, feed.bucket)
            return feed.messages.popleft() if feed.messages else None

    @property
    def revision(self) -> Revision:
        """Where the space's history stands."""
        return Revision(self._epoch, self._counter)

    # Inside; the lock is held.

    def _start_epoch(self) -> None:
        self._epoch = uuid.uuid4().hex
        self._counter = 0
        self._places = Places()
        self._changes.clear()

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """One step: leases that ran out end first, and watches are told of all that changed, once."""
        with self._lock:
            for session in [one for one in self._sessions.values() if one.over]:
                self._expire(session.owner)
            try:
                # A snapshot that is taken in this step must not be followed by a change it has.
                self._tell()
                yield
            finally:
                self._tell()

    @contextlib.contextmanager
    def _turn(self, session: Session) -> Iterator[None]:
        with self._change():
            self._demand(session.owner)
            yield

    def _demand(self, owner: str) -> None:
        if self._is_blocked(owner):
            raise Unavailable(f"the memory space cannot be reached by {owner or 'anyone'}: it is partitioned")

    def _is_blocked(self, owner: str) -> bool:
        return self._blocked_all or _store_of(owner) in self._blocked

    def _expire(self, owner: str) -> None:
        session = self._sessions.get(owner)
        if session is not None:
            keys: Iterable[RecordKey] = tuple(session.held)
        else:
            everything = self._places.read(Bucket((), deep=True))
            keys = [entry.record.key for entry in everything if entry.owner == owner]
        for key in keys:
            self._remove(key)
        self._sessions.pop(owner, None)

    def _revive(self, session: Session) -> None:
        if session.owner not in self._sessions:
            session.touch()
            self._sessions[session.owner] = session

    def _put(self, session: Session, record: Record) -> str | RegistryError:
        entry = self._places.get(record.key)
        owner = session.owner if record.owned else None
        if entry is not None and entry.owner != owner:
            holder = "another owner's" if entry.owner else "permanent"
            return Conflict(f"{_where(record.key)} is {holder}")
        return too_large(record, CAPABILITIES.max_value_bytes) or self._write(record, owner)

    def _compare(self, key: RecordKey, expected: str | None) -> None:
        entry = self._places.get(key)
        if (None if entry is None else entry.revision) != expected:
            raise Conflict(f"{_where(key)} is not at the expected revision")

    def _write(self, record: Record, owner: str | None) -> str:
        key = record.key
        self._forget(key, owner)
        self._counter += 1
        entry = Entry(record, f"{self._epoch}.{self._counter}", owner)
        self._places.set(entry, self._counter)
        self._changes[key] = entry
        if owner is not None and owner in self._sessions:
            self._sessions[owner].held.add(key)
            self._sessions[owner].lost.discard(key)
        return entry.revision

    def _remove(self, key: RecordKey) -> None:
        if self._places.get(key) is None:
            return
        self._forget(key, None)
        self._counter += 1
        self._places.remove(key, self._counter)
        self._changes[key] = None

    def _forget(self, key: RecordKey, heir: str | None) -> None:
        """Note that the owner of ``key`` lost it, unless it is the heir or gave it away itself."""
        entry = self._places.get(key)
        if entry is None or entry.owner is None or entry.owner == heir:
            return
        session = self._sessions.get(entry.owner)
        if session is not None and key in session.held:
            session.held.discard(key)
            session.lost.add(key)

    def _snapshot(self, session: Session, bucket: Bucket) -> StoreSnapshot:
        records = tuple(stored(entry, session.owner) for entry in self._places.read(bucket))
        return StoreSnapshot(self.revision, records)

    def _tell(self) -> None:
        patches: dict[Feed, tuple[list[Stored], list[RecordKey]]] = {}
        for key, entry in self._changes.items():
            for feed in self._feeds_of(key):
                changed, removed = patches.setdefault(feed, ([], []))
                if entry is None:
                    removed.append(key)
                else:
                    changed.append(stored(entry, feed.session.owner))
        self._changes.clear()
        for feed, (changed, removed) in patches.items():
            feed.deliver(StorePatch(self.revision, tuple(changed), tuple(removed)))

    def _feeds_of(self, key: RecordKey) -> Iterator[Feed]:
        yield from self._feeds.get(Bucket(key.bucket), ())
        for length in range(len(key.bucket) + 1):
            yield from self._feeds.get(Bucket(key.bucket[:length], deep=True), ())

    def _all_feeds(self) -> list[Feed]:
        return [feed for feeds in self._feeds.values() for feed in feeds]

    def _cut(self, affected: Callable[[Session], bool]) -> None:
        for feed in self._all_feeds():
            if affected(feed.session):
                self.unsubscribe(feed)
                feed.cut = Unavailable("the watch was cut off from the memory space")
                feed.wake()


def _store_of(owner: str) -> str:
    return owner.partition("/")[0]


def _where(key: RecordKey) -> str:
    return f"the record {key.name!r} in {'/'.join(key.bucket)!r}"


class Spaces:
    """The spaces of this process by name and namespace; a forked child starts with none."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin with none, and with a lock that nobody holds."""
        self._lock = threading.Lock()
        self._spaces: dict[tuple[str, str], Space] = {}

    def get(self, name: str, namespace: str) -> Space:
        """The space, made when it is first asked for."""
        with self._lock:
            return self._spaces.setdefault((name, namespace), Space())


_SPACES = Spaces()
if hasattr(os, "register_at_fork"):
    # Before the child has a second thread: two that came first at a time would have a space each.
    os.register_at_fork(after_in_child=_SPACES.start)


def space(name: str = "", namespace: str = "") -> Space:
    """The space behind ``memory://name?namespace=…`` in this process."""
    return _SPACES.get(name, namespace)
