"""etcd stores in a namespace of their own, an operator at the server, and what a watch of one has said; on both versions."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from typing import Any

import pytest

from sofa_registry_adapters.backends.etcd import BACKEND
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.faults import eventually_async
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service

PATH = ("services", "echo")
HERE = Bucket(PATH)


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(50):
                await test(*args, **kwargs)
            await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")

        asyncio.run(main())

    return run


def record(name: str = "a", value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PATH, name, value, owned=owned)


def key(name: str = "a") -> RecordKey:
    return RecordKey(PATH, name)


def text(raw: str) -> str:
    return base64.b64encode(raw.encode()).decode()


def ask(server: Service | tuple[str, int], path: str, token: str = "", **body: object) -> Any:
    """An operator's request, through the gateway that every etcd has."""
    host, port = server if isinstance(server, tuple) else server.address
    connection = HTTPConnection(host, port, timeout=10)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(body), {"Authorization": token} if token else {})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return json.loads(said)
    finally:
        connection.close()


def compact(server: Service | tuple[str, int]) -> None:
    ask(server, "kv/compaction", revision=ask(server, "kv/range", key=text("none"))["header"]["revision"])


class Follower:
    """A watch that is opened again when it is cut, as the engine does it."""

    def __init__(self, store: EtcdStore, bucket: Bucket = HERE) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.cuts: list[RegistryError] = []
        self._store = store
        self._bucket = bucket
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(self._bucket)) as messages_:  # type: ignore[type-var]
                    async for message in messages_:
                        self._apply(message)
            except (Unavailable, Denied) as error:
                self.cuts.append(error)
                await asyncio.sleep(0.02)

    def _apply(self, message: StoreSnapshot | StorePatch) -> None:
        if isinstance(message, StoreSnapshot):
            self.values = {one.key: one.record.value for one in message.records}
        else:
            self.values |= {one.key: one.record.value for one in message.changed}
            for gone in message.removed:
                self.values.pop(gone, None)
        self.messages.append(message)

    @property
    def snapshots(self) -> int:
        return sum(isinstance(one, StoreSnapshot) for one in self.messages)

    async def shows(self, expected: dict[RecordKey, bytes], seconds: float = 5.0) -> None:
        try:
            await eventually_async(lambda: self.messages and self.values == expected, seconds)
        except AssertionError:
            assert self.values == expected, self.cuts[-1:]
            raise

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()


@asynccontextmanager
async def opened(*stores: EtcdStore) -> AsyncIterator[None]:
    for store in stores:
        await store.open()
    try:
        yield
    finally:
        for store in stores:
            await store.close()


@asynccontextmanager
async def following(store: EtcdStore, bucket: Bucket = HERE) -> AsyncIterator[Follower]:
    follower = Follower(store, bucket)
    try:
        await eventually_async(lambda: follower.messages, 5.0, "a first message")
        yield follower
    finally:
        await follower.close()


async def values(store: EtcdStore, bucket: Bucket = HERE) -> dict[RecordKey, bytes]:
    found = await store.read(bucket)
    assert found is not None
    return {one.key: one.record.value for one in found.records}


async def raised(call: Awaitable[object]) -> RegistryError:
    try:
        await call
    except RegistryError as error:
        return error
    raise AssertionError("nothing was raised")


async def works(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        await call()
    except Unavailable:
        return False
    return True


def store_at(place: str, user: str = "", scheme: str = "etcd", **options: str | float | bool) -> EtcdStore:
    return EtcdStore(parse_target(f"{scheme}://{user}{place}/unit", BACKEND, options), SystemClock())


Make = Callable[..., EtcdStore]


@pytest.fixture(params=("etcd", pytest.param("etcd36", marks=pytest.mark.wide)))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, version: str) -> Service:
    """One that others use as well."""
    service = request.getfixturevalue(f"{version}_service")
    assert isinstance(service, Service)
    return service


@pytest.fixture
def own(request: pytest.FixtureRequest, version: str) -> OwnEtcd:
    """Servers to be hurt."""
    factory: OwnEtcd = request.getfixturevalue(f"own_{version}")
    return factory


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def make(server: Service, namespace: str) -> Make:
    return functools.partial(store_at, f"{server.host}:{server.port}", namespace=namespace)
