"""A namespace on a ZooKeeper server, its stores, an operator there, and what a watch of them shows."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import echo_records
from echo_records import key
from kazoo.client import KazooClient

from sofa_registry_adapters.backends.zookeeper import BACKEND
from sofa_registry_adapters.backends.zookeeper.store import ZooKeeperStore
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Record
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.services import Service


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(40):
                await test(*args, **kwargs)
            await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")
            await eventually_async(lambda: not connection_threads(), 2.0, "no thread is left")

        asyncio.run(main())

    return run


def connection_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sofa-registry-zookeeper"]


class Place:
    """A namespace on a server: stores, an operator's client, and four-letter words."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.namespace = uuid.uuid4().hex
        self.stores: list[ZooKeeperStore] = []

    def path(self, name: str = "a") -> str:
        return f"/{self.namespace}/services/echo/{name}"

    def store(self, at: str = "", credentials: str = "", **options: object) -> ZooKeeperStore:
        given = {"session_timeout": 3, "namespace": self.namespace, **options}
        url = f"zookeeper://{credentials}{at or f'{self.service.host}:{self.service.port}'}"
        store = ZooKeeperStore(parse_target(url, BACKEND, given), SystemClock())  # type: ignore[arg-type]
        self.stores.append(store)
        return store

    async def open(self, at: str = "", credentials: str = "", **options: object) -> ZooKeeperStore:
        store = self.store(at, credentials, **options)
        await store.open()
        return store

    @contextlib.contextmanager
    def operator(self) -> Iterator[KazooClient]:
        client = KazooClient(f"{self.service.host}:{self.service.port}")
        client.start()
        try:
            yield client
        finally:
            client.stop()
            client.close()

    def ask(self, word: bytes) -> str:
        with socket.create_connection(self.service.address, timeout=5) as connection:
            connection.sendall(word)
            return b"".join(iter(functools.partial(connection.recv, 65536), b"")).decode()


@contextlib.asynccontextmanager
async def opened(service: Service) -> AsyncIterator[Place]:
    place = Place(service)
    try:
        yield place
    finally:
        for store in place.stores:
            await store.close()


class Follower(echo_records.Follower):
    """Told by names alone."""

    async def shows(self, *names: str, seconds: float = 5.0) -> None:
        expected = {key(name) for name in names}
        await eventually_async(lambda: self.messages and set(self.values) == expected, seconds, f"it shows {names}")


async def put(store: ZooKeeperStore, *records: Record) -> None:
    answers = await store.put(records)
    assert all(isinstance(answer, str) for answer in answers.values()), answers
    assert len(answers) == len(records)


async def reports(store: ZooKeeperStore, *names: str, seconds: float = 5.0) -> None:
    """Renew as the engine does until these records are missing."""

    async def look() -> bool:
        try:
            return set(await store.renew()) == {key(name) for name in names}
        except Unavailable:
            return False

    await eventually_async(look, seconds, f"renew reports {names}")
