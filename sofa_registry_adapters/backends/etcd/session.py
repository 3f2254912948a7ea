"""One open store: its connection, its lease, what it holds and what it watches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence

from sofa_registry_adapters.backends.etcd.connecting import STATUS, Connector, check_status
from sofa_registry_adapters.backends.etcd.failures import LeaseOver
from sofa_registry_adapters.backends.etcd.holding import Holdings
from sofa_registry_adapters.backends.etcd.keys import Keyspace
from sofa_registry_adapters.backends.etcd.lease import Lease
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.messages import rpc
from sofa_registry_adapters.backends.etcd.reading import RANGE, Reading, read, stands, unchanged
from sofa_registry_adapters.backends.etcd.watching import Feed, Stream
from sofa_registry_adapters.backends.etcd.writing import Task, run
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.spi.store import Bucket, RecordKey

GOODBYE_SECONDS = 0.4
REMEMBERED = 10_000
"""Buckets of which is known where their watches ended."""


class Session:
    """See the module."""

    def __init__(self, target: Target, connector: Connector) -> None:
        self.keyspace: Keyspace = Keyspace(target)
        self.link: Link = Link(connector)
        self.lease: Lease = Lease(self.link, target.number("lease"))
        self.stream: Stream = Stream(self.link)
        self.holdings: Holdings = Holdings(self.link, self.stream, self.lease, self.keyspace)
        self.feeds: dict[Bucket, list[Feed]] = {}
        self._read: dict[Bucket, tuple[int, int]] = {}
        self._ended: dict[Bucket, Reading] = {}
        third = max(target.number("lease") / 3, 0.5)
        # Before whoever renews loses patience: silence is told by giving the connection up.
        self._patience = 0.8 * min(connector.call_timeout, third)

    async def write(self, tasks: Sequence[Task]) -> None:
        """Do the tasks. Raises `RegistryError` if nothing is known of what became of them."""
        keys = [task.key for task in tasks]
        self.holdings.begin(keys)
        try:
            await run(self.link, tasks)
        except LeaseOver:
            self.over()
            raise
        finally:
            self.holdings.end(keys)

    def over(self) -> None:
        """The lease is gone, and all records with it."""
        self.lease.id = 0
        self.holdings.lose_all()

    async def renew(self) -> Collection[RecordKey]:
        """See `RecordStore.renew`.

        All streams are on the connection that answers here, or does not. A stream that lags behind while that answers ends
        by itself: the server ends it when it has lost its cluster.
        """
        connection = await self.link.connection()
        try:
            async with asyncio.timeout(self._patience):
                if not self.lease.id:
                    await self._look(connection.where)
                elif not await self.lease.renew():
                    self.over()
                return await self.holdings.check()
        except TimeoutError:
            silent = Unavailable(f"etcd at {connection.where} gave no sign of life within {self._patience:.1f} s")
            self.link.drop(connection, silent)
            raise silent from None
        except Unavailable as error:
            # Also of a server that answers that it has no leader: another one may have.
            self.link.drop(connection, error)
            raise

    async def _look(self, where: str) -> None:
        """Whether the server is one of a cluster with a leader. Raises `RegistryError`."""
        try:
            check_status(await self.link.ask(STATUS, rpc.StatusRequest()), where)
        except Denied:
            # Told to administrators only. A read needs a leader as well, even of a key that nobody has; and whoever refuses
            # it has one.
            with contextlib.suppress(Denied):
                await self.link.ask(RANGE, rpc.RangeRequest(key=self.keyspace.root, limit=1, keys_only=True))

    async def read(self, bucket: Bucket) -> Reading:
        """All records of a bucket."""
        reading = await read(self.link, self.keyspace.place(bucket), self.lease.id)
        if bucket in self.feeds:
            self._read[bucket] = reading.revision.counter, reading.size
        return reading

    async def unchanged(self, bucket: Bucket, counter: int) -> bool:
        """Whether a watched bucket certainly is what it was at this revision."""
        known = [(feed.revision, feed.count) for feed in self.feeds.get(bucket, ())]
        known += [self._read[bucket]] if bucket in self._read else []
        for revision, count in known:
            if revision == counter:
                return await unchanged(self.link, self.keyspace.place(bucket), revision, count)
        return False

    @contextlib.asynccontextmanager
    async def following(self, bucket: Bucket, found: Reading) -> AsyncIterator[Feed]:
        """The changes of a bucket since it was read."""
        feed = Feed(found.revision.counter, found.size, found.witness)
        await self.link.connection()
        watch = self.stream.watch(feed, self.keyspace.place(bucket).span, feed.revision + 1)
        self.feeds.setdefault(bucket, []).append(feed)
        try:
            await feed.begun()
            yield feed
        finally:
            self.stream.end(watch)
            self._remember(
                bucket, Reading(Revision(found.revision.epoch, feed.revision), feed.count, None, feed.witness)
            )
            self.feeds[bucket].remove(feed)
            if not self.feeds[bucket]:
                del self.feeds[bucket]
                self._read.pop(bucket, None)

    def _remember(self, bucket: Bucket, ended: Reading) -> None:
        """Where a watch ended: whoever watches again may go on from there."""
        self._ended.pop(bucket, None)
        self._ended[bucket] = ended
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    async def standing(self, bucket: Bucket, since: Revision) -> Reading | None:
        """The bucket as it was at ``since``, without its records, if a watch of it can go on from there."""
        ended = self._ended.get(bucket)
        if ended is None or ended.revision != since:
            return None
        return ended if await stands(self.link, self.keyspace.place(bucket), ended) else None

    async def close(self) -> None:
        """Drop the records and the connection; never raises."""
        if self.lease.id and self.link.current is not None:
            with contextlib.suppress(RegistryError):
                await self.lease.revoke(GOODBYE_SECONDS)
        await self.link.close()
