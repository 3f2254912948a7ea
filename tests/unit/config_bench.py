"""Configuration on a store that fails when it is told to."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager

from sofa_registry_adapters.backends.memory import BACKEND, space
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine.store_config import StoreConfig, record_key
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.spi.store import Record, RecordKey

KEY = ConfigKey("pool.yaml", "orders")
PLACE = record_key(KEY)


class FailingStore(MemoryStore):
    """A store whose writes end with an error, before or after they took effect, when a test says so."""

    def __init__(self, name: str) -> None:
        super().__init__(parse_target(f"memory://{name}", BACKEND), SystemClock())
        self.fails: Callable[[], str] = lambda: ""
        self.written: list[RecordKey] = []

    async def _do(self, work: Coroutine[None, None, object]) -> object:
        how = self.fails()
        if how == "before":
            work.close()
            raise Unavailable("before")
        answer = await work
        if how == "after":
            raise Unavailable("after")
        return answer

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        self.written += [record.key for record in records]
        return await self._do(super().put(records))  # type: ignore[return-value]

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        return await self._do(super().delete(keys))  # type: ignore[return-value]

    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        return await self._do(super().compare_and_put(record, expected))  # type: ignore[return-value]


class Bench:
    """A config on a space of its own, and what is in that space."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.space: Space = space(self.name)
        self.store = FailingStore(self.name)
        self.config = StoreConfig(self.store, SystemClock())

    async def publish(self, content: str, key: ConfigKey = KEY) -> str:
        return await self.config.publish(key, ConfigDraft(content, "text", "me"), None)

    async def contents(self, limit: int = 1000) -> list[str | bytes]:
        return [item.content for item in await self.config.history(KEY, limit)]

    def archived(self) -> list[str]:
        bucket = ("config-history", "orders", "pool.yaml")
        names = (f"{number:012d}" for number in range(200))
        return [name for name in names if self.space.peek(RecordKey(bucket, name))]


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.config.open()
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        await made.config.close()
