"""One watch: a snapshot, then each change, in step with the numbers that the server gives them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from sofa_registry_adapters.backends.redis.keys import Path, decode
from sofa_registry_adapters.backends.redis.subscriptions import Inbox
from sofa_registry_adapters.backends.redis.wire import (
    Change,
    Malformed,
    Message,
    Position,
    Reading,
    parse_message,
    stored,
)
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.store import Bucket, RecordKey, Stored, StorePatch, StoreSnapshot

Changed = dict[RecordKey, Stored | None]


class Reader(Protocol):
    """What a watch asks of the server."""

    async def read_all(self, bucket: Bucket, more: Iterable[Path] = ()) -> Mapping[Path, Reading]:
        """Every bucket that ``bucket`` covers, and those of ``more``."""
        ...

    async def changes(self, path: Path, position: Position) -> Sequence[Change] | None:
        """What changed since the position; None if that cannot be told."""
        ...


def revision_of(bucket: Bucket, positions: Mapping[Path, Position]) -> Revision:
    """The revision of a bucket: its own, or for a deep one that of all that is in it.

    The epoch of a deep bucket is another one as soon as a bucket joins it or begins an epoch of its own.
    """
    if not bucket.deep:
        return positions[bucket.path].revision
    known = sorted((path, at.revision.epoch) for path, at in positions.items() if at.epoch)
    epoch = hashlib.blake2s(repr(known).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest() if known else ""
    return Revision(epoch, sum(at.counter for at in positions.values()))


def snapshot_of(bucket: Bucket, readings: Mapping[Path, Reading]) -> StoreSnapshot:
    """What was read, as one."""
    positions = {path: reading.position for path, reading in readings.items()}
    records = tuple(record for reading in readings.values() for record in reading.records)
    return StoreSnapshot(revision_of(bucket, positions), records)


class Watch:
    """The state of a watch; `snapshot` first, then `next` for ever."""

    def __init__(self, bucket: Bucket, inbox: Inbox, reader: Reader, me: str) -> None:
        self.positions: dict[Path, Position] = {}
        self._bucket = bucket
        self._inbox = inbox
        self._reader = reader
        self._me = me
        self._revision = Revision()
        self._suspected: dict[Path, Revision] = {}

    async def snapshot(self) -> StoreSnapshot:
        """All records, and from here on the changes since."""
        readings = await self._reader.read_all(self._bucket, tuple(self.positions))
        self.positions = {path: reading.position for path, reading in readings.items()}
        self._suspected.clear()
        found = snapshot_of(self._bucket, readings)
        self._revision = found.revision
        return found

    async def next(self) -> StorePatch | StoreSnapshot:
        """What changed since the message before; a snapshot if that cannot be told."""
        while True:
            messages, doubtful = await self._inbox.take()
            found: Changed = {}
            suspects = await self._fold(messages, found)
            suspects.update(self.positions if doubtful is None else doubtful)
            if not await self._catch_up(suspects, found):
                return await self.snapshot()
            if found:
                return self._patch(found)

    def hear(self, path: Path, seen: Revision) -> None:
        """The server says that the bucket is at ``seen``: a watch that stays elsewhere missed something."""
        at = self.positions.get(path)
        if at is None or at.revision == seen or not self._inbox.empty:
            self._suspected.pop(path, None)
        elif self._suspected.get(path) == at.revision:
            self._inbox.doubt(path)
        else:
            # The message may be on its way.
            self._suspected[path] = at.revision

    async def _fold(self, messages: Iterable[tuple[Path, bytes]], found: Changed) -> set[Path]:
        """Apply messages; the answer has the buckets that are not in step with theirs."""
        lost: set[Path] = set()
        for path, data in messages:
            if path in lost:
                continue
            if found:
                # A message has 200 changes at most; others get their turn between two.
                await asyncio.sleep(0)
            try:
                message = parse_message(data)
            except Malformed:
                lost.add(path)
                continue
            if not self._apply(path, message, found):
                lost.add(path)
        return lost

    def _apply(self, path: Path, message: Message, found: Changed) -> bool:
        at = self.positions.get(path)
        if at is None or message.epoch != at.epoch:
            return False
        for change in message.changes:
            if change.counter == at.counter + 1:
                self._step(path, at, change, found)
                at.fresh = False
            elif change.counter > at.counter:
                return False
            elif not at.fresh or (change.counter == at.counter and change.nonce != at.nonce):
                # The server went back.
                return False
        return True

    async def _catch_up(self, suspects: Collection[Path], found: Changed) -> bool:
        for path in suspects:
            at = self.positions.get(path)
            changes = None if at is None else await self._reader.changes(path, at)
            if at is None:
                # Known from now on, whatever the index says.
                self.positions[path] = Position("", 0, "")
            if changes is None or at is None:
                return False
            for change in changes:
                if change.counter != at.counter + 1:
                    return False
                self._step(path, at, change, found)
            at.fresh = True
        return True

    def _step(self, path: Path, at: Position, change: Change, found: Changed) -> None:
        key = RecordKey(path, decode(change.name))
        found.pop(key, None)
        found[key] = None if change.raw is None else stored(path, change.name, change.raw, self._me)
        at.counter, at.nonce = change.counter, change.nonce
        self._revision = Revision(self._revision.epoch, self._revision.counter + 1)

    def _patch(self, found: Changed) -> StorePatch:
        changed = [record for record in found.values() if record is not None]
        removed = [key for key, record in found.items() if record is None]
        return StorePatch(self._revision, changed, removed)
