"""Redis stores in a namespace of their own, an operator at the server, and what a watch of one has said."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import redis

from sofa_registry_adapters.backends.redis import BACKEND
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.errors import Closed, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.services import Service

PATH = ("services", "echo")
HERE = Bucket(PATH)


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(30):
                await test(*args, **kwargs)
            await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")

        asyncio.run(main())

    return run


def record(name: str = "a", value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PATH, name, value, owned=owned)


def key(name: str = "a") -> RecordKey:
    return RecordKey(PATH, name)


class Raw:
    """An operator with a shell on the server, and the names of the keys of `PATH`."""

    def __init__(self, service: Service, namespace: str) -> None:
        self.client = redis.Redis(host=service.host, port=service.port)
        head = f"sofa:{{{namespace}/services/echo}}:"
        self.records, self.leases, self.names = head + "records", head + "leases", head + "names"
        self.log, self.state, self.changes = head + "log", head + "state", head + "changes"


class Follower:
    """A watch that is opened again when it is cut, as the engine does it."""

    def __init__(self, store: RedisStore, bucket: Bucket = HERE) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.cuts = 0
        self.snapshots = 0
        self._store = store
        self._bucket = bucket
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(self._bucket)) as messages:  # type: ignore[type-var]
                    async for message in messages:
                        self._apply(message)
            except Unavailable:
                self.cuts += 1
                await asyncio.sleep(0.01)
            except Closed:
                return

    def _apply(self, message: StoreSnapshot | StorePatch) -> None:
        if isinstance(message, StoreSnapshot):
            self.snapshots += 1
            self.values = {one.key: one.record.value for one in message.records}
        else:
            self.values |= {one.key: one.record.value for one in message.changed}
            for gone in message.removed:
                self.values.pop(gone, None)
        self.messages.append(message)

    async def shows(self, expected: dict[RecordKey, bytes], seconds: float = 5.0) -> None:
        try:
            await eventually_async(lambda: self.messages and self.values == expected, seconds)
        except AssertionError:
            assert self.values == expected
            raise

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def raw(redis_service: Service, namespace: str) -> Iterator[Raw]:
    raw = Raw(redis_service, namespace)
    yield raw
    raw.client.close()


Make = Callable[..., RedisStore]


@pytest.fixture
def make(redis_service: Service, namespace: str) -> Make:
    return functools.partial(store_at, redis_service.host, redis_service.port, namespace)


def store_at(host: str, port: int, namespace: str, user: str = "", **options: str | float) -> RedisStore:
    url = f"redis://{user}{host}:{port}/0?namespace={namespace}"
    return RedisStore(parse_target(url, BACKEND, options), SystemClock())


@asynccontextmanager
async def opened(*stores: RedisStore) -> AsyncIterator[None]:
    for store in stores:
        await store.open()
    try:
        yield
    finally:
        for store in stores:
            await store.close()


@asynccontextmanager
async def following(store: RedisStore, bucket: Bucket = HERE) -> AsyncIterator[Follower]:
    follower = Follower(store, bucket)
    try:
        await eventually_async(lambda: follower.messages, 5.0, "a first message")
        yield follower
    finally:
        await follower.close()


async def kill(store: RedisStore) -> None:
    """End the store as a killed process ends: without a word to the server."""
    session = store._session
    assert session is not None
    for path in session.holdings.paths():
        session.holdings.forget(path)
    await store.close()


async def values(store: RedisStore, bucket: Bucket = HERE) -> dict[RecordKey, bytes]:
    found = await store.read(bucket)
    assert found is not None
    return {one.key: one.record.value for one in found.records}


async def missing(store: RedisStore, expected: set[RecordKey], seconds: float) -> None:
    async def all_seen() -> bool:
        with contextlib.suppress(Unavailable):
            return set(await store.renew()) == expected
        return False

    await eventually_async(all_seen, seconds, "renew reports what is missing", interval=0.2)
