"""Local stores in the folder of one test, what other processes publish there, and what a watch of one has said."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sofa_registry_adapters.backends.local import BACKEND
from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import PythonProcess, eventually_async, python_process

PLACE = ("services", "echo")
HERE = Bucket(PLACE)
PUBLISHER = """
    import asyncio, contextlib, sys, time
    from sofa_registry_adapters.backends.local import BACKEND
    from sofa_registry_adapters.errors import RegistryError
    from sofa_registry_adapters.settings import parse_target
    from sofa_registry_adapters.spi.clock import SystemClock
    from sofa_registry_adapters.spi.store import Bucket, Record

    PLACE = ("services", "echo")
    names = sys.argv[1:]

    def new_store():
        return BACKEND.load()(parse_target({url!r}, BACKEND), SystemClock())

    def publish(*names):
        return [Record(PLACE, name, b"child") for name in names]

    async def renewing(store, wanted):
        while True:
            with contextlib.suppress(RegistryError):
                missing = await store.renew()
                if missing:
                    await store.put(publish(*(key.name for key in missing)))
                    print("again", *sorted(key.name for key in missing))
            await asyncio.sleep(0.05)
"""


class Folder:
    """Stores on one file of one test, closed at its end."""

    def __init__(self, path: Path) -> None:
        self.path = path / "registry.db"
        self.made: list[LocalStore] = []

    def url(self, options: str = "") -> str:
        return f"local://{self.path}{options}"

    def new(self, options: str = "", clock: ManualClock | None = None) -> LocalStore:
        store = LocalStore(parse_target(self.url(options), BACKEND), clock or SystemClock())
        self.made.append(store)
        return store

    async def open(self, options: str = "", clock: ManualClock | None = None) -> LocalStore:
        store = self.new(options, clock)
        await store.open()
        return store

    @contextlib.contextmanager
    def child(self, body: str, options: str = "") -> Iterator[PythonProcess]:
        program = textwrap.dedent(PUBLISHER.format(url=self.url(options))) + textwrap.dedent(body)
        with python_process(program) as process:
            yield process

    @contextlib.contextmanager
    def publisher(self, *names: str, options: str = "") -> Iterator[PythonProcess]:
        body = f"""
            async def main():
                store = new_store()
                await store.open()
                answers = await store.put(publish(*{names!r}))
                assert all(isinstance(answer, str) for answer in answers.values()), answers
                print("published", flush=True)
                await renewing(store, {names!r})

            asyncio.run(main())
        """
        with self.child(body, options) as process:
            process.expect("published")
            yield process

    def raw(self, statement: str) -> None:
        connection = sqlite3.connect(self.path, timeout=5)
        try:
            with connection:
                connection.execute(statement)
        finally:
            connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def run(main: Callable[[Folder], Awaitable[None]], folder: Folder) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            try:
                await main(folder)
            finally:
                for store in folder.made:
                    await store.close()

    asyncio.run(bounded())


def show(figure: str) -> None:
    sys.stdout.write(f"{figure}\n")


def record(name: str, value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PLACE, name, value, owned=owned)


def key(name: str) -> RecordKey:
    return RecordKey(PLACE, name)


async def names(store: LocalStore) -> set[str]:
    snapshot = await store.read(HERE)
    assert snapshot is not None
    return {stored.key.name for stored in snapshot.records}


async def put(store: LocalStore, *records: Record) -> None:
    answers = await store.put(records)
    assert all(isinstance(answer, str) for answer in answers.values()), answers


class Follower:
    """What a watch has said."""

    def __init__(self, store: LocalStore, bucket: Bucket = HERE) -> None:
        self.names: set[str] = set()
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.seen: dict[str, float] = {}
        self._watch = store.watch(bucket)
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for message in self._watch:
            self.messages.append(message)
            if isinstance(message, StoreSnapshot):
                self.names = {stored.key.name for stored in message.records}
                continue
            self.names -= {gone.name for gone in message.removed}
            self.names |= {stored.key.name for stored in message.changed}
            self.seen |= {stored.key.name: time.monotonic() for stored in message.changed}

    async def shows(self, expected: set[str], timeout: float = 5.0) -> None:
        def same() -> bool:
            if self.task.done():
                self.task.result()
            return bool(self.messages) and self.names == expected

        await eventually_async(same, timeout, f"a watch shows {sorted(expected)}", interval=0.002)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,), timeout=5)
        await self._watch.aclose()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def following(store: LocalStore, bucket: Bucket = HERE) -> AsyncIterator[Follower]:
    follower = Follower(store, bucket)
    try:
        yield follower
    finally:
        await follower.close()


def lock_files(folder: Folder) -> list[Path]:
    owners = folder.path.with_name("registry.db.owners")
    return [path for path in owners.iterdir() if path.name != "opening"]
