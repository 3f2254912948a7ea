"""A store in memory that answers as it is told, and what the tests of a registry on a store publish there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

import pytest
from bounded_tests import within

from sofa_registry_adapters import Instance, Revision, ServiceKey
from sofa_registry_adapters.backends.memory import BACKEND
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import (
    RegistryError,
)
from sofa_registry_adapters.layouts.native import NativeLayout, decode_instance, encode_instance
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.layout import Seen, ServiceLayout
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Wanted
from sofa_registry_adapters.spi.store import (
    Bucket,
    Record,
    RecordKey,
    RecordStore,
    Stored,
    StorePatch,
    StoreSnapshot,
)

A, B = ServiceKey("a"), ServiceKey("b")
NATIVE = NativeLayout()


def one(name: str, **fields: object) -> Instance:
    return Instance(host="h", port=1, instance_id=name, **fields)  # type: ignore[arg-type]


def key(name: str, service: ServiceKey = A) -> RecordKey:
    return NATIVE.record(service, one(name)).key


def wanted(**services: Iterable[Instance]) -> Wanted:
    return Wanted({ServiceKey(name): tuple(several) for name, several in services.items()})


bounded = within(15)


class Double(RecordStore):
    """A store that answers as a test says."""

    capabilities = Capabilities()
    lease = 9.0

    def __init__(self) -> None:
        self.there: dict[RecordKey, Record] = {}
        self.puts: list[list[Record]] = []
        self.deletes: list[list[RecordKey]] = []
        self.errors: dict[RecordKey, RegistryError] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.raising: dict[str, list[Exception]] = {}
        self.missing: list[set[RecordKey]] = []

    async def _pass(self, verb: str) -> None:
        if gate := self.gates.get(verb):
            await gate.wait()
        if queue := self.raising.get(verb):
            raise queue.pop(0)

    async def open(self) -> None:
        await self._pass("open")

    async def close(self) -> None:
        await self._pass("close")

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        self.puts.append(list(records))
        await self._pass("put")
        self.there |= {record.key: record for record in records if record.key not in self.errors}
        return {record.key: self.errors.get(record.key, "1") for record in records}

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        self.deletes.append(list(keys))
        await self._pass("delete")
        for gone in keys:
            if gone not in self.errors:
                self.there.pop(gone, None)
        return {gone: self.errors[gone] for gone in keys if gone in self.errors}

    async def renew(self) -> Collection[RecordKey]:
        await self._pass("renew")
        return self.missing.pop(0) if self.missing else ()

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        await self._pass("read")
        records = tuple(Stored(record, "1", "mine") for at, record in self.there.items() if bucket.holds(at))
        return StoreSnapshot(Revision("e", 1), records)

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        await self._pass("watch")
        yield StoreSnapshot(Revision("e", 1))
        await asyncio.Event().wait()


@pytest.fixture
def store() -> Double:
    return Double()


@pytest.fixture
def registry(store: Double) -> StoreRegistry:
    return StoreRegistry(store, NATIVE, call_timeout=5)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def memory(name: str, layout: ServiceLayout = NATIVE) -> StoreRegistry:
    return StoreRegistry(MemoryStore(parse_target(f"memory://{name}", BACKEND), SystemClock()), layout, 5)


class Hops(ServiceLayout):
    """A mapping names the buckets in which the instances are."""

    name = "hops"

    def bucket(self, service: ServiceKey) -> Bucket:
        return Bucket(("map", service.segment))

    def record(self, service: ServiceKey, instance: Instance) -> Record:
        return Record(("in", instance.zone), instance.instance_id, encode_instance(instance))

    def sources(self, service: ServiceKey, seen: Seen) -> frozenset[Bucket]:
        home = self.bucket(service)
        if service.name == "circle":
            return frozenset(Bucket(("in", str(number))) for number in range(len(seen) + 20_000))
        return frozenset((home, *(Bucket(("in", at.name)) for at in seen if at.bucket == home.path)))

    def decode(self, service: ServiceKey, stored: Stored, seen: Seen) -> Instance | None:
        return None if stored.record.bucket[0] == "map" else decode_instance(stored.record.value)
