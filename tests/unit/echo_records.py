"""Records of the service `echo` on any store, and a watch of them as the engine keeps it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sofa_registry_adapters.errors import Closed, Denied, RegistryError, Unavailable
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, RecordStore, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.faults import eventually_async

PATH = ("services", "echo")
HERE = Bucket(PATH)


def record(name: str = "a", value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PATH, name, value, owned=owned)


def key(name: str = "a") -> RecordKey:
    return RecordKey(PATH, name)


class Follower:
    """A watch that is opened again when it is cut, as the engine does it."""

    def __init__(self, store: RecordStore, bucket: Bucket = HERE) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.cuts = 0
        self.cut_by: RegistryError | None = None
        self._store = store
        self._bucket = bucket
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(self._bucket)) as messages:  # type: ignore[type-var]
                    async for message in messages:
                        self._apply(message)
            except (Unavailable, Denied) as error:
                self.cuts += 1
                self.cut_by = error
                await asyncio.sleep(0.01)
            except Closed:
                return

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
            assert self.values == expected, self.cut_by
            raise

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()


@contextlib.asynccontextmanager
async def following(store: RecordStore, bucket: Bucket = HERE) -> AsyncIterator[Follower]:
    follower = Follower(store, bucket)
    try:
        await eventually_async(lambda: follower.messages, 5.0, "a first message")
        yield follower
    finally:
        await follower.close()


@contextlib.asynccontextmanager
async def opened(*stores: RecordStore) -> AsyncIterator[None]:
    for store in stores:
        await store.open()
    try:
        yield
    finally:
        for store in stores:
            await store.close()


async def values(store: RecordStore, bucket: Bucket = HERE) -> dict[RecordKey, bytes]:
    found = await store.read(bucket)
    assert found is not None
    return {one.key: one.record.value for one in found.records}
