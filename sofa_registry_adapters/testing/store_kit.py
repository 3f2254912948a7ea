"""What the store contract is made with: bounded tests, stores that are closed afterwards, and replicas."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Literal, NamedTuple, TypeVar

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.spi.options import Capabilities
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
from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.faults.waiting import eventually_async

STEP_SECONDS = 5.0
"""How long one condition may take to come true."""
TEST_SECONDS = 30.0
"""How long a whole test may take."""

StoreFactory = Callable[[], RecordStore]
DeleteBehind = Callable[[RecordStore, RecordKey], Awaitable[None]]
Contract = TypeVar("Contract")


PLACE = ("services", "echo")
HERE = Bucket(PLACE)
"""The bucket of most tests."""


class Content(NamedTuple):
    """A record as a reader sees it, without what only a writer says."""

    value: bytes
    owner: Literal["mine", "other", "none"]
    revision: str


class Stores:
    """Makes the stores of one test, opened, and closes all of them at its end."""

    def __init__(self, factory: StoreFactory, delete_behind: DeleteBehind) -> None:
        self.delete_behind = delete_behind
        self._factory = factory
        self._made: list[RecordStore] = []
        self._replicas: list[Replica] = []

    def new(self) -> RecordStore:
        """A store that is not open yet."""
        store = self._factory()
        self._made.append(store)
        return store

    async def open(self) -> RecordStore:
        """A new owner."""
        store = self.new()
        await store.open()
        return store

    async def replica(self, store: RecordStore, bucket: Bucket) -> Replica:
        """A replica of a bucket that has its first snapshot."""
        replica = Replica(store, bucket)
        self._replicas.append(replica)
        await replica.until(lambda: replica.messages, "a watch gives a first message")
        return replica

    async def follow(self, store: RecordStore, bucket: Bucket) -> Callable[[], Awaitable[None]]:
        """Watch a bucket where the store can; the answer checks that the replica equals what `read` says."""
        if not store.capabilities.push:
            return lambda: asyncio.sleep(0)
        replica = await self.replica(store, bucket)
        return lambda: replica.equals(store)

    async def close(self) -> None:
        """Close the replicas and the stores; nothing may be left on the event loop."""
        for replica in self._replicas:
            await replica.close()
        for store in self._made:
            await store.close()
        await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "a closed store leaves no task")


class Replica:
    """A copy of a bucket, made from the messages of a watch alone; it checks each message as it comes."""

    def __init__(self, store: RecordStore, bucket: Bucket) -> None:
        self.bucket = bucket
        self.records: dict[RecordKey, Stored] = {}
        self.messages: list[StoreSnapshot | StorePatch] = []
        self._messages = store.watch(bucket)
        self._task = asyncio.create_task(self._follow())

    @property
    def content(self) -> dict[RecordKey, Content]:
        """The records as they stand now."""
        return {key: content(stored) for key, stored in self.records.items()}

    @property
    def values(self) -> dict[RecordKey, bytes]:
        """The records' bytes as they stand now."""
        return {key: stored.record.value for key, stored in self.records.items()}

    async def until(self, condition: Callable[[], object], message: str) -> None:
        """Wait until the condition is true. Raises what cut the watch, should that come first."""

        def look() -> bool:
            if self._task.done():
                self._task.result()
            return bool(condition())

        await eventually_async(look, STEP_SECONDS, message)

    async def equals(self, store: RecordStore) -> None:
        """Wait until the replica is what `read` says; the store sees it as the watching one does."""

        async def same() -> bool:
            return self.content == await contents(store, self.bucket)

        await self.until(lambda: True, "")
        try:
            await comes_true(same, "a replica made from messages equals read")
        except AssertionError:
            assert self.content == await contents(store, self.bucket)  # says what differs
            raise

    async def error(self) -> BaseException | None:
        """What the watch raises, once it does."""
        await asyncio.wait((self._task,), timeout=STEP_SECONDS)
        assert self._task.done(), "the watch goes on"
        return self._task.exception()

    async def close(self) -> None:
        """End the watch as the engine does: cancel who waits for it, then close the iterator."""
        self._task.cancel()
        await asyncio.wait((self._task,), timeout=STEP_SECONDS)
        assert self._task.done(), "a cancelled watch goes on"
        await close_iterator(self._messages)

    async def _follow(self) -> None:
        async for message in self._messages:
            self._check(message)
            if isinstance(message, StoreSnapshot):
                self.records = {stored.key: stored for stored in message.records}
            else:
                for key in message.removed:
                    self.records.pop(key, None)
                self.records.update((stored.key, stored) for stored in message.changed)
            self.messages.append(message)
        raise AssertionError("a watch ended without raising")

    def _check(self, message: StoreSnapshot | StorePatch) -> None:
        if isinstance(message, StoreSnapshot):
            keys = [stored.key for stored in message.records]
        else:
            assert self.messages, "the first message of a watch is a snapshot"
            keys = [*(stored.key for stored in message.changed), *message.removed]
        assert len(keys) == len(set(keys)), f"a message speaks of a record once: {keys}"
        for key in keys:
            assert self.bucket.holds(key), f"{key} is not in {self.bucket}"
        if self.messages and self.messages[-1].revision.epoch == message.revision.epoch:
            assert self.messages[-1].revision.counter <= message.revision.counter, "a counter went back"


def bounded(test: Callable[[Contract, Stores], Awaitable[None]]) -> Callable[[Contract, Stores], None]:
    """A coroutine as a test of plain pytest: on its own loop, in a bounded time, with all stores closed."""

    @functools.wraps(test)
    def run(self: Contract, stores: Stores) -> None:
        async def main() -> None:
            async with asyncio.timeout(TEST_SECONDS):
                try:
                    await test(self, stores)
                finally:
                    await stores.close()

        asyncio.run(main())

    return run


async def comes_true(condition: Callable[[], Awaitable[bool]], message: str, seconds: float = STEP_SECONDS) -> None:
    """Wait until the condition is true."""
    look: Callable[[], bool | Awaitable[bool]] = condition
    await eventually_async(look, seconds, message, interval=0.02)


async def close_iterator(messages: AsyncIterator[object]) -> None:
    """Close a watch."""
    aclose = getattr(messages, "aclose", None)
    assert aclose is not None, "what watch returns has aclose()"
    await aclose()


def need(capabilities: Capabilities, name: str) -> None:
    """Skip the test where the capability is declared absent; another test checks that it is."""
    if not getattr(capabilities, name):
        not_applicable(f"the store declares {name}=False")


def conditional(store: RecordStore) -> ConditionalStore:
    """The store's conditional verbs; skips the test where they are declared absent."""
    need(store.capabilities, "compare_and_set")
    assert isinstance(store, ConditionalStore), "compare_and_set is declared, so the store is a ConditionalStore"
    return store


def listable(store: RecordStore) -> ListableStore:
    """The store's listing; skips the test where it is declared absent."""
    need(store.capabilities, "list_services")
    assert isinstance(store, ListableStore), "list_services is declared, so the store is a ListableStore"
    return store


def content(stored: Stored) -> Content:
    """What matters of a record."""
    assert stored.record.owned == (stored.owner != "none"), f"owned and owner disagree: {stored}"
    return Content(stored.record.value, stored.owner, stored.revision)


async def snapshot(store: RecordStore, bucket: Bucket) -> StoreSnapshot:
    """What `read` says; without a known revision it always says something."""
    answer = await store.read(bucket)
    assert isinstance(answer, StoreSnapshot), f"read without a known revision answered {answer!r}"
    return answer


async def contents(store: RecordStore, bucket: Bucket) -> dict[RecordKey, Content]:
    """The records of a bucket, each of them once."""
    records = (await snapshot(store, bucket)).records
    found = {stored.key: content(stored) for stored in records}
    assert len(found) == len(records), "read has a record twice"
    return found


async def values(store: RecordStore, bucket: Bucket) -> dict[RecordKey, bytes]:
    """The bytes of a bucket's records."""
    return {key: found.value for key, found in (await contents(store, bucket)).items()}


async def look(store: RecordStore, key: RecordKey) -> Content | None:
    """The record at ``key``."""
    return (await contents(store, Bucket(key.bucket))).get(key)


async def write(store: RecordStore, *records: Record) -> Mapping[RecordKey, str]:
    """Put the records, all of which are accepted; the answer has their revisions."""
    answers = await store.put(records)
    refused = {key: answer for key, answer in answers.items() if isinstance(answer, RegistryError)}
    assert not refused, f"put refused {refused}"
    assert set(answers) == {record.key for record in records}, "put answers for each record"
    return {key: answer for key, answer in answers.items() if isinstance(answer, str)}


async def erase(store: RecordStore, *keys: RecordKey) -> None:
    """Delete the records; nothing is refused."""
    assert await store.delete(keys) == {}, "delete refused something"


def record(name: str, value: bytes = b"1", *, owned: bool = True) -> Record:
    """A record in the bucket of most tests."""
    return Record(PLACE, name, value, owned=owned)


def key(name: str) -> RecordKey:
    """Its key."""
    return RecordKey(PLACE, name)


async def reports(store: RecordStore, *missing: RecordKey) -> None:
    """Wait until `renew` has said that each of these is missing, and nothing else, as fast as is declared."""
    seen: set[RecordKey] = set()

    async def all_seen() -> bool:
        seen.update(await store.renew())
        return seen >= set(missing)

    seconds = store.capabilities.detects_loss_within + 1.0
    await comes_true(all_seen, "renew reports what is missing", seconds)
    assert seen == set(missing), "renew reports what is not missing"


async def holds(store: RecordStore, expected: set[RecordKey]) -> None:
    """Wait until the bucket has exactly these records."""

    async def same() -> bool:
        return set(await contents(store, HERE)) == expected

    await comes_true(same, f"the bucket has {len(expected)} records")


async def raises(kind: type[RegistryError], call: Awaitable[object]) -> bool:
    """Whether the call raises an error of this kind; other errors pass through."""
    try:
        await call
    except kind:
        return True
    return False
