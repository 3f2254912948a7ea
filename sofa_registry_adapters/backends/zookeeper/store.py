"""The ZooKeeper store: records are nodes. See the package for the URL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from sofa_registry_adapters.backends.zookeeper import CAPABILITIES, diagnosing, wire
from sofa_registry_adapters.backends.zookeeper.access import Access
from sofa_registry_adapters.backends.zookeeper.ledger import Ledger
from sofa_registry_adapters.backends.zookeeper.paths import Tree
from sofa_registry_adapters.backends.zookeeper.reading import Reader
from sofa_registry_adapters.backends.zookeeper.session import Session, server_name
from sofa_registry_adapters.backends.zookeeper.tasks import ComparedDelete, ComparedPut, Context, Delete, Put, Task
from sofa_registry_adapters.backends.zookeeper.watching import Feed, Guarding, Watches
from sofa_registry_adapters.backends.zookeeper.writing import Writer
from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable, ValueTooLarge
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.diagnosis import DiagnosableStore, Diagnosis
from sofa_registry_adapters.spi.options import Capabilities, Target
from sofa_registry_adapters.spi.store import (
    Bucket,
    ConditionalStore,
    ListableStore,
    Record,
    RecordKey,
    RecordStore,
    Stored,
    StorePatch,
    StoreSnapshot,
)

PATH_BYTES = 16 * 1024
"""The longest path that leaves room for the largest record in one request."""
PIECE = 1_000
"""Records that are prepared before others have the loop."""
GATHERINGS = 4
"""Reads that go into one patch, while there is more to read."""
SEARCHES = 100
"""Buckets that are searched for a record at a time."""
FORMER = 100
"""Sessions of ours that are remembered after their end."""
GRACE = 0.5
"""Seconds that `close` waits for the server's answer, and once more for the end of the connection."""


class ZooKeeperStore(RecordStore, ConditionalStore, ListableStore, DiagnosableStore):
    """One owner: a session, and further ones when the paths of its records outgrow it."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    proof: ClassVar[str] = "never: the servers remove what a session owns when it ends, so what is there may be alive"

    def __init__(self, target: Target, clock: Clock) -> None:
        self.lease = target.number("session_timeout")
        self._clock = clock
        self._target = target
        self._tree = Tree(target)
        self._server = server_name(target)
        own = target.identified or target.text("cert")
        acl = wire.access(target.text("acl") or ("creator" if own else "open"))
        self._access = Access(target)
        self._ledger = Ledger()
        self._context = Context(acl, self._server, self._ledger, self._dropped)
        self._owners = self._context.owners
        self._watches = Watches()
        self._reader = Reader(self._tree, self._owners, self._server)
        self._writer = Writer(self._tree, self._reader, acl, self._server)
        self._sessions: list[Session] = []
        self._joining: list[Session] = []
        self._growing = asyncio.Lock()
        self._rearm = False
        self._seen = 0
        self._epoch = 0
        self._capacity = int(target.number("max_session_bytes"))

    # Opening and closing.

    async def open(self) -> None:
        if not self._sessions:
            self._access.check_files()
            self._growing = asyncio.Lock()
            await self._join()

    async def _join(self) -> Session:
        session = Session(self._target, self._access, self, self._seen)
        self._joining.append(session)
        try:
            session.start()
            await session.established()
            self._sessions.append(session)
        except BaseException:
            self._abandon(session)
            session.stop()
            raise
        finally:
            self._joining.remove(session)
        return session

    async def close(self) -> None:
        sessions, self._sessions = [*self._sessions, *self._joining], []
        self._watches.cut(Unavailable(f"{self._server}: the store was closed"))
        for session in sessions:
            session.stop()
            self._abandon(session)
        self._seen = max((self._seen, *(max(session.seen, session.zxid) for session in sessions[:1])))
        self._watches = Watches()
        self._ledger.clear()
        self._writer.forget_parents()
        for give_up in (False, True):
            if give_up:
                for session in sessions:
                    session.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    for session in sessions:
                        await session.finished()
                return

    def _abandon(self, session: Session) -> None:
        """The session ends, or was replaced: what is left of it may be taken over."""
        if session in self._sessions:
            self._sessions.remove(session)
        self._retire(session.id)
        self._ledger.lose_session(session)

    def _retire(self, session_id: int) -> None:
        if session_id:
            self._owners.live.pop(session_id, None)
            self._owners.former[session_id] = None
            if len(self._owners.former) > FORMER:
                del self._owners.former[next(iter(self._owners.former))]

    # What sessions tell.

    def joined(self, session: Session, before: int) -> None:
        """A session is connected, for the first time or again."""
        if session not in self._sessions and session not in self._joining:
            return
        if before not in {0, session.id}:
            self._retire(before)
            self._ledger.lose_session(session)
        self._owners.live[session.id] = session
        self.lease: float = min(each.timeout for each in (session, *self._sessions))
        if before or not self._sessions or session is self._sessions[0]:
            self._rearm = self._watches.guarding

    def rewound(self, session: Session) -> None:
        """The servers lost data: their changes are counted anew."""
        if session in self._sessions[:1] or not self._sessions:
            self._epoch += 1
            self._seen = 0

    def cut(self, session: Session, reason: str) -> None:
        """The connection of a session is gone; of the first one: with all watches."""
        if self._sessions and session is self._sessions[0]:
            self._watches.cut(Unavailable(f"{self._server}: {reason}"))
            self._writer.forget_parents()

    def changed(self, kind: int, path: str) -> None:
        """A node changed."""
        if not self._sessions:
            return
        self._watches.changed(path, self._sessions[0].zxid)
        if kind == wire.DELETED:
            self._ledger.doubt_path(path)

    def _dropped(self, key: RecordKey) -> None:
        self._ledger.drop(key)
        if self._sessions:
            self._watches.unguard(key, self._sessions[0].send)

    @property
    def _main(self) -> Session:
        if not self._sessions:
            raise Closed(f"{self._server}: the store is not open")
        return self._sessions[0]

    async def _reached(self) -> Session:
        """The first session, connected: kazoo is on its way back while it is not."""
        main = self._main
        await main.reachable()
        return main

    # Writing.

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        await self._reached()
        answers: dict[RecordKey, str | RegistryError] = {}
        tasks, guards = list[Task](), list[Guarding]()
        for place in range(0, len(records), PIECE):
            piece = await self._puts(records[place : place + PIECE], answers)
            guards.append(self._guard(piece))
            tasks += piece
        await self._write(tasks, guards)
        answers.update((task.key, task.answer) for task in tasks if task.answer is not None)
        return answers

    async def _puts(self, records: Sequence[Record], refused: dict[RecordKey, str | RegistryError]) -> list[Task]:
        tasks: list[Task] = []
        for record in records:
            path = self._tree.record(record.key)
            if refusal := self._too_large(record, path):
                refused[record.key] = refusal
            else:
                tasks.append(Put(record, path, await self._place(record, path), self._context))
        await asyncio.sleep(0)
        return tasks

    def _too_large(self, record: Record, path: str) -> ValueTooLarge | None:
        if len(record.value) <= self.capabilities.max_value_bytes and len(path.encode()) <= PATH_BYTES:
            return None
        return ValueTooLarge(
            f"{self._server}: {path[:200]} has {len(record.value)} bytes and a path of {len(path)}; "
            f"at most {self.capabilities.max_value_bytes} and {PATH_BYTES} are possible"
        )

    async def _place(self, record: Record, path: str) -> Session:
        """The session for a record, entered in the ledger if it is owned."""
        if not record.owned:
            return self._main
        holding = self._ledger.get(record.key)
        if holding is not None:
            return holding.session
        size = len(path.encode()) + 4
        async with self._growing:
            session = self._room(size) or await self._join()
        return self._ledger.claim(record.key, path, session).session

    def _room(self, size: int) -> Session | None:
        _ = self._main
        room = (each for each in self._sessions if self._ledger.used(each) + size <= self._capacity)
        return next(room, None)

    def _guard(self, tasks: Iterable[Task]) -> Guarding:
        owned = (one for one in tasks if isinstance(one, Put) and one.record.owned)
        guards = ((one.key, one.path, self._tree.bucket(one.key.bucket)) for one in owned)
        return self._watches.guard(guards, self._main.send)

    async def _write(self, tasks: Sequence[Task], guards: Sequence[Guarding]) -> None:
        # What one session asks is carried out in the order in which it was asked: no need to wait between the two.
        for guarding in guards if len(self._sessions) > 1 else ():
            await guarding()
        with self._ledger.writing(task.key for task in tasks):
            await self._writer.run(tasks)
        for guarding in guards:
            await guarding()

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        main = await self._reached()
        tasks: list[Task] = []
        for place in range(0, len(keys), PIECE):
            piece = keys[place : place + PIECE]
            tasks.extend(Delete(key, self._tree.record(key), main, self._context) for key in piece)
            await asyncio.sleep(0)
        await self._writer.run(tasks)
        return {task.key: task.answer for task in tasks if isinstance(task.answer, RegistryError)}

    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        path = self._tree.record(record.key)
        if refusal := self._too_large(record, path):
            raise refusal
        await self._reached()
        task = ComparedPut(record, path, await self._place(record, path), self._context, expected)
        await self._write((task,), (self._guard((task,)),))
        if isinstance(task.answer, str):
            return task.answer
        raise task.answer or Unavailable(f"{self._server}: {path}: no answer")

    async def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        task = ComparedDelete(key, self._tree.record(key), await self._reached(), self._context, expected)
        await self._writer.run([task])
        if isinstance(task.answer, RegistryError):
            raise task.answer

    # Staying alive.

    async def renew(self) -> Collection[RecordKey]:
        self._check_sessions()
        main = self._main
        if self._rearm:
            self._rearm = False
            self._ledger.doubt_all()
            try:
                await self._watches.rearm(main.send)
            except BaseException:
                self._rearm = True
                raise
        await self._verify(main)
        return tuple(self._ledger.missing)

    def _check_sessions(self) -> None:
        """Raise if a session cannot be used; one whose connection has ended for good is replaced."""
        for place, session in enumerate(self._sessions):
            if session.over:
                problem = session.problem()
                self._retire(session.id)
                self._ledger.lose_session(session)
                self._sessions[place] = Session(self._target, self._access, self, max(session.seen, session.zxid))
                self._sessions[place].start()
                raise problem
        for session in self._sessions:
            if not session.connected:
                raise session.problem()

    async def _verify(self, main: Session) -> None:
        """Look at own records that may be gone. Those whose write is under way stay in doubt until it is answered."""
        doubts = self._ledger.doubts
        holdings = {holding.path: holding for holding in self._ledger.in_doubt()}
        async for _, answered in self._reader.nodes(main, list(holdings)):
            batch = [each for each in answered if not self._ledger.is_written(holdings[each[0]].key)]
            for path, reply in batch:
                holding = holdings[path]
                gone = reply.code == wire.NO_NODE or (reply.stat and reply.stat.owner != holding.session.id)
                if gone and self._ledger.get(holding.key) is holding:
                    self._ledger.lose(holding.key)
                    self._watches.unguard(holding.key, main.send)
            self._ledger.settle((holdings[path] for path, _ in batch), doubts)

    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        return await diagnosing.diagnose(await self._reached(), self._target, self._access, self._tree.record(probe))

    async def dead(self, keys: Sequence[RecordKey]) -> Collection[RecordKey]:
        # The servers remove the nodes of a session when it ends: one that is there has a session that may live.
        return ()

    # Reading.

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        main = await self._reached()
        if known is not None and not bucket.deep and await self._unchanged(main, bucket, known):
            return None
        zxid, records = await self._reader.listing(main, bucket)
        return StoreSnapshot(self._revision(zxid), records)

    async def _unchanged(self, main: Session, bucket: Bucket, known: Revision) -> bool:
        """The server vouches for what is there, an unbroken watch for what it says."""
        path = self._tree.bucket(bucket.path)
        if known.epoch != self._revision(0).epoch or not self._watches.unchanged(path, known.counter):
            return False
        answer = await main.call(wire.BulkRead([wire.get_data(path)]))
        stat = answer.replies[0].stat
        return (
            stat is not None
            and stat.pzxid <= known.counter <= answer.zxid
            and self._watches.unchanged(path, known.counter)
        )

    def _revision(self, zxid: int) -> Revision:
        """Changes are numbered by the servers; numbers that go back begin another history."""
        return Revision(str(self._epoch) if self._epoch else "", zxid)

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        main = await self._reached()
        feed = Feed(self._tree.bucket(bucket.path), deep=bucket.deep)
        try:
            await self._watches.subscribe(feed, main.send)
            zxid, records = await self._reader.listing(main, bucket)
            yield StoreSnapshot(self._revision(zxid), records)
            while True:
                yield await self._patch(main, feed)
        finally:
            self._watches.unsubscribe(feed, main.send)

    async def _patch(self, main: Session, feed: Feed) -> StorePatch:
        """The next changes; those of one transaction together, unless too many others come with them."""
        changed: dict[RecordKey, Stored] = {}
        removed: dict[RecordKey, None] = {}
        paths = await feed.next()
        first = last = 0
        for _ in range(GATHERINGS):
            last, records, gone = await self._reader.changes(main, paths)
            first = first or last
            for record in records:
                changed[record.key] = record
                removed.pop(record.key, None)
            for key in gone:
                changed.pop(key, None)
                removed[key] = None
            # The events of what an answer has seen were sent before it.
            paths = feed.more()
            if not paths:
                return StorePatch(self._revision(last), list(changed.values()), list(removed))
        feed.mark_all(paths)
        return StorePatch(self._revision(first), list(changed.values()), list(removed))

    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        main = await self._reached()
        _, paths = await self._reader.children(main, (self._tree.bucket(parent),))
        inner: list[str] = []
        async for _, batch in self._reader.nodes(main, paths):
            inner.extend(path for path, reply in batch if reply.stat is not None and reply.stat.children)
        found: list[str] = []
        for place in range(0, len(inner), SEARCHES):
            piece = inner[place : place + SEARCHES]
            occupied = await asyncio.gather(*(self._reader.occupied(main, path) for path in piece))
            found.extend(path for path, there in zip(piece, occupied, strict=True) if there)
        return [path.rpartition("/")[2] for path in found]
