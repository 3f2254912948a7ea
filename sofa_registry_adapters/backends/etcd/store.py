"""The etcd store: records are keys. See the package for the URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import ClassVar

from sofa_registry_adapters.backends.etcd import CAPABILITIES, diagnosing, reading
from sofa_registry_adapters.backends.etcd.connecting import Connector
from sofa_registry_adapters.backends.etcd.messages import Message
from sofa_registry_adapters.backends.etcd.reading import Reading
from sofa_registry_adapters.backends.etcd.session import Session
from sofa_registry_adapters.backends.etcd.watching import DELETED
from sofa_registry_adapters.backends.etcd.writing import ComparedDelete, ComparedPut, Delete, Put, Task
from sofa_registry_adapters.errors import Closed, Conflict, RegistryError, ValueTooLarge
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
    ResumableStore,
    Stored,
    StorePatch,
    StoreSnapshot,
)

KEY_BYTES = 16 * 1024
"""The longest key that leaves room for the largest record in one request."""
PIECE = 1_000
"""Records that are prepared before others have the loop."""


class EtcdStore(RecordStore, ConditionalStore, ListableStore, ResumableStore, DiagnosableStore):
    """One owner: one connection, one lease, one stream of changes."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    proof: ClassVar[str] = "never: the servers remove what a lease owns when it ends, so what is there may be alive"

    def __init__(self, target: Target, clock: Clock) -> None:
        self.lease: float = target.number("lease")
        self._target = target
        self._connector = Connector(target)
        self._session: Session | None = None

    async def open(self) -> None:
        await self.close()
        self._connector.check_files()
        session = Session(self._target, self._connector)
        try:
            await session.link.connection()
        except BaseException:
            await session.close()
            raise
        self._session = session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        session = self._opened()
        answers: dict[RecordKey, str | RegistryError] = {}
        fitting: dict[RecordKey, tuple[Record, bytes]] = {}
        for record in records:
            key = record.key
            raw = session.keyspace.of_record(key)
            # Of several records with one key the last one stays, in its place.
            fitting.pop(key, None)
            if (error := self._unfit(record, raw)) is not None:
                answers[key] = error
            else:
                fitting[key] = record, raw
        if not fitting:
            return answers
        owned = frozenset(key for key, (record, _) in fitting.items() if record.owned)
        lease = await session.lease.granted() if owned else 0
        tasks = []
        for key, (record, raw) in fitting.items():
            tasks.append(_put(session, key, record, raw, lease))
            if len(tasks) % PIECE == 0:
                await asyncio.sleep(0)
        await session.write(tasks)
        answers.update(_settle(session, tasks, owned))
        return answers

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        session = self._opened()
        lease, held = session.lease.id, session.holdings.holds
        tasks = [Delete(key, session.keyspace.of_record(key), lease, held=held(key)) for key in dict.fromkeys(keys)]
        await session.write(tasks)
        refused = {task.key: task.answer for task in tasks if isinstance(task.answer, RegistryError)}
        session.holdings.drop(task.key for task in tasks if task.key not in refused)
        return refused

    async def renew(self) -> Collection[RecordKey]:
        return await self._opened().renew()

    async def lost(self) -> None:
        await self._opened().holdings.alarm.wait()

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        session = self._opened()
        if known is not None and await session.unchanged(bucket, known.counter):
            return None
        found = await session.read(bucket)
        return StoreSnapshot(found.revision, found.records or ())

    def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        return self._watch(bucket, None)

    def resume(self, bucket: Bucket, since: Revision) -> AsyncIterator[StoreSnapshot | StorePatch]:
        return self._watch(bucket, since)

    async def _watch(self, bucket: Bucket, since: Revision | None) -> AsyncIterator[StoreSnapshot | StorePatch]:
        session = self._opened()
        while True:
            found = (await session.standing(bucket, since) if since else None) or await session.read(bucket)
            async with session.following(bucket, found) as feed:
                yield _said(found)
                while (events := await feed.take()) is not None:
                    revision = Revision(found.revision.epoch, feed.revision)
                    patch = await _patch(session, bucket, events, revision)
                    if patch.changed or patch.removed:
                        yield patch
            # What came next was compacted away: from a new reading on.
            since = None

    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        session = self._opened()
        raw = session.keyspace.of_record(record.key)
        if (error := self._unfit(record, raw)) is not None:
            raise error
        lease = await session.lease.granted() if record.owned else 0
        task = ComparedPut(record.key, raw, record.value, lease, expected)
        await session.write([task])
        if isinstance(task.answer, RegistryError):
            raise task.answer
        if record.owned:
            session.holdings.keep({record.key: task.answer or 0})
        else:
            session.holdings.drop([record.key])
        return str(task.answer)

    async def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        session = self._opened()
        task = ComparedDelete(key, session.keyspace.of_record(key), expected)
        await session.write([task])
        if isinstance(task.answer, RegistryError):
            raise task.answer
        session.holdings.drop([key])

    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        session = self._opened()
        return await reading.buckets(session.link, session.keyspace, parent)

    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        return await diagnosing.diagnose(self._opened())

    async def dead(self, keys: Sequence[RecordKey]) -> Collection[RecordKey]:
        return ()

    def _opened(self) -> Session:
        if self._session is None:
            raise Closed(f"the store on {self._target} is not open")
        return self._session

    def _unfit(self, record: Record, raw: bytes) -> RegistryError | None:
        limit = self.capabilities.max_value_bytes
        if len(record.value) <= limit and len(raw) <= KEY_BYTES:
            return None
        return ValueTooLarge(
            f"the record {record.name[:80]!r} has {len(record.value)} bytes and a key of {len(raw)}: "
            f"etcd takes {limit} and {KEY_BYTES} at most"
        )


def _put(session: Session, key: RecordKey, record: Record, raw: bytes, lease: int) -> Task:
    if not record.owned:
        return Put(key, raw, record.value, 0)
    return Put(key, raw, record.value, lease, held=session.holdings.holds(key))


def _settle(
    session: Session, tasks: Sequence[Task], owned: Collection[RecordKey]
) -> Mapping[RecordKey, str | RegistryError]:
    """Take down what became of the records."""
    answers: dict[RecordKey, str | RegistryError] = {}
    written: dict[RecordKey, int] = {}
    for task in tasks:
        if isinstance(task.answer, RegistryError):
            answers[task.key] = task.answer
            if isinstance(task.answer, Conflict):
                session.holdings.drop([task.key])
            continue
        revision = task.answer or 0
        answers[task.key] = str(revision)
        if task.key in owned:
            written[task.key] = revision
    session.holdings.keep(written)
    return answers


def _said(found: Reading) -> StoreSnapshot | StorePatch:
    """How a watch begins."""
    return StorePatch(found.revision) if found.records is None else StoreSnapshot(found.revision, found.records)


async def _patch(session: Session, bucket: Bucket, events: Sequence[Message], revision: Revision) -> StorePatch:
    place = session.keyspace.place(bucket)
    changed: list[Stored] = []
    removed: list[RecordKey] = []
    for start in range(0, len(events), reading.AT_ONCE):
        some = events[start : start + reading.AT_ONCE]
        changed += reading.stored_of(place, [one.kv for one in some if one.type != DELETED], session.lease.id)
        gone = (place.key(one.kv.key) for one in some if one.type == DELETED)
        removed += [key for key in gone if key is not None]
        await asyncio.sleep(0)
    return StorePatch(revision, changed, removed)
