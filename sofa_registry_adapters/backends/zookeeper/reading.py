"""Bulk reads in requests of bounded size, and the listing of buckets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.backends.zookeeper.faults import explained
from sofa_registry_adapters.backends.zookeeper.paths import Tree
from sofa_registry_adapters.backends.zookeeper.session import Session
from sofa_registry_adapters.backends.zookeeper.tasks import Owners
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored

NAMES = 1_000
"""Nodes in one request."""
FIRST = 50
"""Nodes in the first request, which tells how large they are."""
REQUEST_BYTES = 512 * 1024
ANSWER_BYTES = 1024 * 1024
SAMPLE = 8
"""Children to look at first when a bucket is searched for a record."""


class Listing(NamedTuple):
    """The records of a bucket. ``zxid`` is a change that is seen in it, with all before."""

    zxid: int
    records: Sequence[Stored]


def is_record(reply: wire.Reply) -> bool:
    """Whether a node is a record, and not only the parent of some."""
    stat = reply.stat
    if reply.code or stat is None or stat.special:
        return False
    # Parents of ours have no data at all, those of others may be empty.
    return bool(stat.owner) or bool(reply.data) or (reply.data is not None and not stat.children)


class Reader:
    """Reads over one session."""

    def __init__(self, tree: Tree, owners: Owners, server: str) -> None:
        self._tree = tree
        self._owners = owners
        self._server = server

    async def nodes(
        self, session: Session, paths: Sequence[str], first: int = FIRST
    ) -> AsyncIterator[tuple[int, list[tuple[str, wire.Reply]]]]:
        """Data and stat of nodes, batch by batch, each with the change it was read at.

        Absent nodes and those that we may not read are among them, with their code.
        """
        place, count = 0, first
        while place < len(paths):
            batch = _fitting(paths, place, count)
            answer = await session.call(wire.BulkRead([wire.get_data(path) for path in batch]))
            for path, reply in zip(batch, answer.replies, strict=True):
                if reply.code not in {wire.OK, wire.NO_NODE, wire.NO_AUTH}:
                    raise explained(reply.code, self._server, path)
            yield answer.zxid, list(zip(batch, answer.replies, strict=True))
            place += len(batch)
            size = sum(len(reply.data or b"") for reply in answer.replies) // len(batch)
            count = max(1, min(NAMES, ANSWER_BYTES // (size + 100)))

    async def children(self, session: Session, paths: Sequence[str]) -> tuple[int, list[str]]:
        """Paths of the children of nodes; absent nodes have none."""
        found: list[str] = []
        zxid = 0
        for place in range(0, len(paths), NAMES):
            batch = paths[place : place + NAMES]
            answer = await session.call(wire.BulkRead([wire.get_children(path) for path in batch]))
            zxid = zxid or answer.zxid
            for path, reply in zip(batch, answer.replies, strict=True):
                if reply.code not in {wire.OK, wire.NO_NODE}:
                    raise explained(reply.code, self._server, path)
                prefix = path.rstrip("/")
                found.extend(f"{prefix}/{name}" for name in reply.names)
        return zxid, found

    async def listing(self, session: Session, bucket: Bucket) -> Listing:
        """All records of a bucket that we may read; none if it does not exist. `Denied` if we may read nothing."""
        zxid, paths = await self.children(session, (self._tree.bucket(bucket.path),))
        records: list[Stored] = []
        denied = 0
        while paths:
            inner: list[str] = []
            async for _, batch in self.nodes(session, paths):
                denied += sum(reply.code == wire.NO_AUTH for _, reply in batch)
                records.extend(self.stored(path, reply) for path, reply in batch if is_record(reply))
                inner.extend(path for path, reply in batch if reply.stat is not None and reply.stat.children)
            paths = []
            if bucket.deep and inner:
                _, paths = await self.children(session, inner)
        if denied and not records:
            raise explained(wire.NO_AUTH, self._server, self._tree.bucket(bucket.path))
        return Listing(zxid, records)

    async def changes(self, session: Session, paths: Sequence[str]) -> tuple[int, list[Stored], list[RecordKey]]:
        """The change they were read at, the records at these paths, and the keys of those that are gone."""
        zxid = 0
        changed: list[Stored] = []
        removed: list[RecordKey] = []
        async for read_at, batch in self.nodes(session, paths):
            zxid = zxid or read_at
            for path, reply in batch:
                if is_record(reply):
                    changed.append(self.stored(path, reply))
                elif reply.code == wire.NO_NODE or (reply.stat is not None and not reply.stat.special):
                    removed.append(self._tree.key(path))
        return zxid, changed, removed

    async def occupied(self, session: Session, path: str) -> bool:
        """Whether there is a record below the path, at any depth."""
        _, paths = await self.children(session, (path,))
        while paths:
            inner: list[str] = []
            async for _, batch in self.nodes(session, paths, SAMPLE):
                if any(is_record(reply) for _, reply in batch):
                    return True
                inner.extend(path for path, reply in batch if reply.stat is not None and reply.stat.children)
            _, paths = await self.children(session, inner)
        return False

    def stored(self, path: str, reply: wire.Reply) -> Stored:
        """A node as a record."""
        key = self._tree.key(path)
        stat = reply.stat
        if stat is None:
            raise ValueError(path)
        record = Record(key.bucket, key.name, reply.data or b"", owned=bool(stat.owner))
        if not stat.owner:
            return Stored(record, stat.revision, "none")
        return Stored(record, stat.revision, "mine" if stat.owner in self._owners.live else "other")


def _fitting(paths: Sequence[str], place: int, count: int) -> Sequence[str]:
    end, size = place, 0
    for path in paths[place : place + count]:
        size += 4 * len(path) if not path.isascii() else len(path)
        if size > REQUEST_BYTES and end > place:
            break
        size += 20
        end += 1
    return paths[place:end]
