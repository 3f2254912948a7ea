"""What this owner has written, and the watches that tell when one of it is deleted, or written by somebody else."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from sofa_registry_adapters.backends.etcd.failures import says
from sofa_registry_adapters.backends.etcd.keys import Keyspace, Path, Place, Span
from sofa_registry_adapters.backends.etcd.lease import Lease
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.messages import Message
from sofa_registry_adapters.backends.etcd.reading import Seen, look
from sofa_registry_adapters.backends.etcd.watching import DELETED, Stream, Watch
from sofa_registry_adapters.errors import Denied, RegistryError
from sofa_registry_adapters.spi.store import Bucket, RecordKey

GUARDED_ONE_BY_ONE = 8
"""With more own records in a bucket, one watch on the bucket is used for those that come after."""
LOOKED_AT = 2000
"""Records that are asked for together: all of them have to be looked at before a renewal is due."""


class Guard:
    """A watch for own records. It has seen all changes from ``since`` on up to ``revision``, if it is not ``blind``."""

    def __init__(self, holdings: Holdings, place: Place | None, span: Span, revision: int) -> None:
        self.span = span
        self.since: float = revision
        self.revision = revision
        self.keys: dict[bytes, RecordKey] = {}
        self.watch: Watch | None = None
        self.blind = False
        self._holdings = holdings
        self._place = place

    def opened(self) -> None:
        """Nothing to be done."""

    def changed(self, events: Sequence[Message]) -> None:
        for event in events:
            key = self.keys.get(event.kv.key) or self._coming(event.kv.key)
            if key is not None:
                self._holdings.told(key, event)
        self.revision = events[-1].kv.mod_revision

    def _coming(self, raw: bytes) -> RecordKey | None:
        """The record at this key, if it is one that is just being written, and is not known to be ours before that ends."""
        key = self._place.key(raw) if self._place is not None and self._holdings.writes else None
        return key if key is not None and self._holdings.awaits(key) else None

    def compacted(self) -> None:
        self._over(soon=True)

    def cut(self, reason: RegistryError) -> None:
        # The store may have gone back meanwhile, and the token may be over: a look finds out, another watch would not.
        self._over(soon=not isinstance(reason, Denied))

    def _over(self, *, soon: bool) -> None:
        """The watch is over. What was refused, or is blind after a look, has the time until the next renewal."""
        if soon and not self.blind:
            self._holdings.alarm.set()
        self.watch, self.blind = None, True


class Holdings:
    """Own records by key. A record that is being written is the concern of whoever writes it."""

    def __init__(self, link: Link, stream: Stream, lease: Lease, keyspace: Keyspace) -> None:
        self._link = link
        self._stream = stream
        self._lease = lease
        self._keyspace = keyspace
        self._place_of = functools.lru_cache(maxsize=100)(lambda path: keyspace.place(Bucket(path)))
        self._held: dict[RecordKey, int] = {}
        self._lost: dict[RecordKey, None] = {}
        self._writing: dict[RecordKey, int] = {}
        self._doubts: dict[RecordKey, int] = {}
        self._guards: dict[Span, Guard] = {}
        self._guard_of: dict[RecordKey, Guard] = {}
        self._in_bucket: dict[Path, int] = {}
        self.alarm: asyncio.Event = asyncio.Event()
        """Set while `check` has something to do."""

    def holds(self, key: RecordKey) -> bool:
        """Whether the record was written by us and is not known to be gone."""
        return key in self._held

    @property
    def writes(self) -> bool:
        """Whether anything is being written."""
        return bool(self._writing)

    def awaits(self, key: RecordKey) -> bool:
        """Whether a record is being written that no guard has yet."""
        return key in self._writing and key not in self._guard_of

    def begin(self, keys: Iterable[RecordKey]) -> None:
        """These are about to be written or deleted; `end` follows."""
        for key in keys:
            self._writing[key] = self._writing.get(key, 0) + 1

    def end(self, keys: Iterable[RecordKey]) -> None:
        """What `begin` began is over, whatever came of it."""
        for key in keys:
            self._writing[key] -= 1
            if not self._writing[key]:
                del self._writing[key]
            if key in self._doubts:
                self.alarm.set()

    def keep(self, written: Mapping[RecordKey, int]) -> None:
        """These were written, at these revisions."""
        # A guard that is made for the first of them has to see what became of all.
        for key, revision in sorted(written.items(), key=_revision):
            self._lost.pop(key, None)
            if self._doubts.get(key, 0) <= revision:
                self._doubts.pop(key, None)
            if key not in self._held:
                self._cover(key, revision)
            self._held[key] = revision

    def drop(self, keys: Iterable[RecordKey]) -> None:
        """These are no concern any more."""
        for key in keys:
            self._lost.pop(key, None)
            self._forget(key)

    def lose_all(self) -> None:
        """The lease is over, and everything with it."""
        for key in tuple(self._held):
            self._lose(key)

    def told(self, key: RecordKey, event: Message) -> None:
        """A key of ours changed."""
        if event.type == DELETED or event.kv.lease != self._lease.id:
            self._doubts[key] = event.kv.mod_revision
            if key not in self._writing:
                self.alarm.set()

    async def check(self) -> Collection[RecordKey]:
        """What is known to be gone. Raises `RegistryError`."""
        self.alarm.clear()
        await self._look([one for one in self._guards.values() if one.blind])
        for guard in self._guards.values():
            if guard.watch is None:
                guard.watch = self._stream.watch(guard, guard.span, guard.revision + 1)
        for key, revision in list(self._doubts.items()):
            # What was written since is ours again; what is being written is settled by its answer.
            if key in self._writing:
                continue
            del self._doubts[key]
            if revision > self._held.get(key, revision):
                self._lose(key)
        return tuple(self._lost)

    async def _look(self, guards: Sequence[Guard]) -> None:
        """Read the records of guards that missed something, those of many guards at once. Raises `RegistryError`."""
        for guard in guards:
            # Whoever is cut, or gets another key, during the look is blind again.
            guard.blind, guard.since = False, math.inf
        try:
            revision = await self._compare(guards)
        except BaseException as error:
            for guard in guards:
                guard.blind, guard.since = True, guard.revision
            # Who may not look is told by the watches that are still allowed; who is not let in at all has none.
            if not isinstance(error, Denied) or says(error.__cause__, "authentication failed"):
                raise
            return
        for guard in guards:
            if revision < guard.revision and guard.watch is not None:
                # Its watch waits for what comes after a revision that may never be again.
                self._stream.end(guard.watch)
                guard.watch = None
            guard.revision = guard.since = revision

    async def _compare(self, guards: Sequence[Guard]) -> int:
        """Lose the records that are not as they were written; the revision from which on the guards miss nothing."""
        keys = [(raw, key) for guard in guards for raw, key in guard.keys.items()]
        first = 0
        for start in range(0, len(keys), LOOKED_AT):
            some = keys[start : start + LOOKED_AT]
            before = [self._held.get(key) for _, key in some]
            seen = await look(self._link, [raw for raw, _ in some])
            first = first or min(one.revision for one in seen)
            for (_, key), held, one in zip(some, before, seen, strict=True):
                self._judge(key, held, one)
        return first

    def _judge(self, key: RecordKey, before: int | None, seen: Seen) -> None:
        held = self._held.get(key)
        if held is None or (held != before and held > seen.revision):
            return
        if seen.lease == self._lease.id and seen.written == held:
            return
        if key in self._writing:
            self._doubts[key] = seen.written or seen.revision
        else:
            self._lose(key)

    def _lose(self, key: RecordKey) -> None:
        if self._forget(key):
            self._lost[key] = None

    def _forget(self, key: RecordKey) -> bool:
        self._doubts.pop(key, None)
        held = self._held.pop(key, None) is not None
        guard = self._guard_of.pop(key, None)
        if guard is not None:
            del guard.keys[self._keyspace.of_record(key)]
            self._in_bucket[key.bucket] -= 1
            if not self._in_bucket[key.bucket]:
                del self._in_bucket[key.bucket]
            if not guard.keys:
                del self._guards[guard.span]
                if guard.watch is not None:
                    self._stream.end(guard.watch)
        return held

    def _cover(self, key: RecordKey, revision: int) -> None:
        count = self._in_bucket[key.bucket] = self._in_bucket.get(key.bucket, 0) + 1
        raw = self._keyspace.of_record(key)
        place = self._place_of(key.bucket) if count > GUARDED_ONE_BY_ONE else None
        span = place.span if place is not None else Span(raw)
        guard = self._guards.get(span)
        if guard is None:
            guard = self._guards[span] = Guard(self, place, span, revision)
            if self._link.current is not None:
                guard.watch = self._stream.watch(guard, span, revision + 1)
        elif revision < guard.since:
            # It may have been changed before the guard looked.
            guard.blind = True
            self.alarm.set()
        guard.keys[raw] = key
        self._guard_of[key] = guard


def _revision(written: tuple[RecordKey, int]) -> int:
    return written[1]
