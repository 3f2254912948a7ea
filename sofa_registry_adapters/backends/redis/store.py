"""The store on a Redis server. Each verb is one round trip, however many records it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

from sofa_registry_adapters.backends.redis import CAPABILITIES, database, diagnosing
from sofa_registry_adapters.backends.redis.cluster import prefix
from sofa_registry_adapters.backends.redis.commands import Commands, ServerCommands
from sofa_registry_adapters.backends.redis.connecting import Connector
from sofa_registry_adapters.backends.redis.keys import Path, encode
from sofa_registry_adapters.backends.redis.masters import MasterConnector
from sofa_registry_adapters.backends.redis.renewing import Renewal
from sofa_registry_adapters.backends.redis.scripting import load_scripts
from sofa_registry_adapters.backends.redis.session import PING, Session
from sofa_registry_adapters.backends.redis.sharding import ClusterCommands, ClusterConnector
from sofa_registry_adapters.backends.redis.subscriptions import Inbox
from sofa_registry_adapters.backends.redis.watching import Watch, revision_of, snapshot_of
from sofa_registry_adapters.backends.redis.wire import SEPARATOR, Position
from sofa_registry_adapters.errors import Closed, Conflict, RegistryError
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
    StorePatch,
    StoreSnapshot,
    too_large,
)

CHUNK_RECORDS = 500
CHUNK_BYTES = 1_000_000
"""In one script call, so that it keeps the server from others for a few milliseconds only."""


class RedisStore(RecordStore, ConditionalStore, ListableStore, DiagnosableStore):
    """See the module, and `BACKEND` for the options."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    proof: ClassVar[str] = "when it has no lease, or one that is over, by the server's clock"

    def __init__(self, target: Target, clock: Clock) -> None:
        self.lease: float = target.number("lease")
        self._target = target
        self._clock = clock
        self._connector = self._connect_to(target)
        self._scripts = load_scripts()
        self._session: Session | None = None
        self._renewal: Renewal | None = None

    def _connect_to(self, target: Target) -> Connector:
        return Connector(target, database(target))

    def _run_on(self, connector: Connector) -> Commands:
        return ServerCommands(connector, self._scripts)

    async def open(self) -> None:
        await self.close()
        self._connector.wiring.check_files()
        session = Session(self._target, self._connector, self._run_on(self._connector), self._scripts)
        try:
            await session.commands.one(PING)
        except BaseException:
            await session.close()
            raise
        self._session = session
        self._renewal = Renewal(session, self._clock, self.lease)

    async def close(self) -> None:
        session, self._session, self._renewal = self._session, None, None
        if session is not None:
            await session.close()

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        session = self._opened()
        answers: dict[RecordKey, str | RegistryError] = {}
        fitting = []
        for record in records:
            error = too_large(record, self.capabilities.max_value_bytes)
            if error is None:
                fitting.append(record)
            else:
                answers[record.key] = error
        if not fitting:
            return answers
        paths = tuple(dict.fromkeys(record.bucket for record in fitting))
        chunks = tuple(_chunks(fitting))
        calls = [session.call("put", chunk[0].bucket, *_triples(chunk)) for chunk in chunks]
        with session.writing({record.bucket for record in fitting if record.owned}):
            # Who finds a record by its message finds its bucket in the index. And who took the bucket out meanwhile, as
            # an empty one, either sees the record when he looks again, or did so before it is entered again.
            _, *written, _ = await session.commands.run_between(session.register(paths), calls)
            for chunk, answer in zip(chunks, written, strict=True):
                self._note(session, chunk, answer, answers)
        return answers

    def _note(
        self,
        session: Session,
        chunk: Sequence[Record],
        answer: object,
        answers: dict[RecordKey, str | RegistryError],
    ) -> None:
        """Take down what became of the records of one script call."""
        if isinstance(answer, RegistryError):
            answers.update((record.key, answer) for record in chunk)
            return
        assert isinstance(answer, bytes)  # noqa: S101  the script says so
        kept: dict[str, str] = {}
        refused: list[str] = []
        for record, said in zip(chunk, answer.split(SEPARATOR), strict=True):
            if said[:1] == b"R":
                answers[record.key] = revision = said[1:].decode()
                if record.owned:
                    kept[record.name] = revision
            else:
                answers[record.key] = _conflict(record.key, said[1:])
                refused.append(record.name)
        holding = session.holdings.get(chunk[0].bucket)
        if holding is not None:
            holding.drop(refused)
            holding.keep(kept)

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        session = self._opened()
        by_bucket: dict[Path, list[str]] = {}
        for key in keys:
            by_bucket.setdefault(key.bucket, []).append(key.name)
        chunks = [
            (path, names[at : at + CHUNK_RECORDS])
            for path, names in by_bucket.items()
            for at in range(0, len(names), CHUNK_RECORDS)
        ]
        held = [path for path in by_bucket if session.holdings.get(path) is not None]
        with session.writing(held):
            answers = await session.commands.run(
                [session.call("delete", path, *map(encode, names)) for path, names in chunks]
            )
            refused: dict[RecordKey, RegistryError] = {}
            for (path, names), answer in zip(chunks, answers, strict=True):
                holding = session.holdings.get(path)
                if isinstance(answer, RegistryError):
                    refused.update((RecordKey(path, name), answer) for name in names)
                elif holding is not None:
                    holding.drop(names)
        return refused

    async def renew(self) -> Collection[RecordKey]:
        self._opened()
        assert self._renewal is not None  # noqa: S101  made with the session
        return await self._renewal.run()

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        session = self._opened()
        if not bucket.deep:
            reading = await session.read(bucket.path, known)
            return None if reading is None else snapshot_of(bucket, {bucket.path: reading})
        if known is not None and await self._stands(session, bucket, known):
            return None
        return snapshot_of(bucket, await session.read_all(bucket))

    async def _stands(self, session: Session, bucket: Bucket, known: Revision) -> bool:
        paths = tuple(dict.fromkeys((bucket.path, *await session.paths_below(bucket.path))))
        states = zip(paths, await session.look(paths), strict=True)
        # Their epochs have their homes in them.
        positions = {path: Position(at.revision.epoch, at.revision.counter, "") for path, at in states}
        return revision_of(bucket, positions) == known

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        session = self._opened()
        feed = await session.join_feed()
        topics = session.keyspace.topics(bucket)
        inbox = Inbox()
        watch = Watch(bucket, inbox, session, session.owner)
        try:
            await feed.listen(inbox, topics)
            session.watches.add(watch)
            yield await watch.snapshot()
            while True:
                yield await watch.next()
        finally:
            session.watches.discard(watch)
            await feed.leave(inbox, topics)
            if feed.idle:
                await session.end_feed(feed)

    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        session = self._opened()
        if error := too_large(record, self.capabilities.max_value_bytes):
            raise error
        command = session.call("compare_and_put", record.bucket, *_triples((record,)), encode(expected or ""))
        with session.writing((record.bucket,) if record.owned else ()):
            index, answer, _ = await session.commands.run_between(session.register((record.bucket,)), [command])
            revision = _compared(record.key, answer, index)
            if holding := session.holdings.get(record.bucket):
                holding.drop((record.name,))
                holding.keep({record.name: revision} if record.owned else {})
        return revision

    async def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        session = self._opened()
        with session.writing((key.bucket,) if session.holdings.get(key.bucket) else ()):
            command = session.call("compare_and_delete", key.bucket, encode(key.name), encode(expected))
            _compared(key, await session.commands.one(command))
            if holding := session.holdings.get(key.bucket):
                holding.drop((key.name,))

    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        session = self._opened()
        paths = await session.paths_below(parent)
        states = list(zip(paths, await session.look(paths), strict=True))
        await session.tidy([path for path, state in states if not state.records])
        return list(dict.fromkeys(path[len(parent)] for path, state in states if state.records))

    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        return await diagnosing.diagnose(self._opened())

    async def dead(self, keys: Sequence[RecordKey]) -> Collection[RecordKey]:
        return await diagnosing.dead(self._opened(), keys)

    def _opened(self) -> Session:
        if self._session is None:
            raise Closed(f"the store on {self._target} is not open")
        return self._session


class SentinelStore(RedisStore):
    """The store on the master that Sentinels name."""

    def _connect_to(self, target: Target) -> Connector:
        return MasterConnector(target)


class ClusterStore(RedisStore):
    """The store on a cluster, where each bucket is on one of several masters."""

    def __init__(self, target: Target, clock: Clock) -> None:
        options = {**target.options, "prefix": prefix(target)}
        super().__init__(msgspec.structs.replace(target, options=options), clock)

    def _connect_to(self, target: Target) -> Connector:
        return ClusterConnector(target)

    def _run_on(self, connector: Connector) -> Commands:
        assert isinstance(connector, ClusterConnector)  # noqa: S101  made above
        return ClusterCommands(connector, self._scripts)


def _chunks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Neighbours of one bucket, in order."""
    chunk: list[Record] = []
    size = 0
    for record in records:
        full = len(chunk) >= CHUNK_RECORDS or size + len(record.value) > CHUNK_BYTES
        if chunk and (full or record.bucket != chunk[0].bucket):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record.value)
    if chunk:
        yield chunk


def _triples(records: Sequence[Record]) -> Iterator[bytes]:
    for record in records:
        yield encode(record.name)
        yield b"1" if record.owned else b"0"
        yield record.value


def _compared(key: RecordKey, *answers: object) -> str:
    """The revision in the first answer. Raises what was refused."""
    for answer in answers:
        if isinstance(answer, RegistryError):
            raise answer
    said = answers[0]
    assert isinstance(said, bytes)  # noqa: S101  the script says so
    if said[:1] != b"R":
        at = said[1:].decode() or "absent"
        raise Conflict(f"the record {key.name!r} in {'/'.join(key.bucket)} is not at the expected revision: {at}")
    return said[1:].decode()


def _conflict(key: RecordKey, holder: bytes) -> Conflict:
    whose = "permanent" if holder == b"-" else f"held by the owner {holder.decode()}"
    return Conflict(f"the record {key.name!r} in {'/'.join(key.bucket)} is {whose}")
