"""A store over calls that block: files, or a client library without asyncio. What all such stores have in common."""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, TypeVar

from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable, Unsupported
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.store import (
    Bucket,
    ConditionalStore,
    ListableStore,
    Record,
    RecordKey,
    RecordStore,
    StoreSnapshot,
    too_large,
)
from sofa_registry_adapters.spi.worker import Worker

T = TypeVar("T")


class BlockingStore(RecordStore, ListableStore):
    """A `RecordStore` without push, of six verbs that block.

    They run one after another on a thread of the store's own, so they need no lock; `keep_alive` goes before all that wait,
    so that it is kept from its time by one call, be it a batch of writes or one `load`. They may raise what ``failures``
    names, which becomes `Unavailable`. This class keeps the promises that know no product: `Closed` unless it is open, an answer
    for each record, `ValueTooLarge` before anything is written, a `close` that does not raise, and a listing, by reading.
    Its own attributes have two underscores: a store may give its own any name with one.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the calls raise when the product cannot be used."""
    batch: ClassVar[int] = 50
    """The most records that `write_all`, and keys that `remove_all`, gets at once; between two batches `keep_alive` has its turn."""

    def __init__(self, place: str) -> None:
        """``place``: what messages call it, without secrets."""
        self.__place = place
        self.__worker = Worker(f"sofa-registry {place}")
        self.__opened = False
        # A call goes on to its end, also if nobody waits for it any more and the store is opened again on another thread.
        self.__turn = threading.Lock()
        self.__connected = False

    @abstractmethod
    def connect(self) -> None:
        """Become an owner, another one each time. May be called again after it raised."""

    @abstractmethod
    def disconnect(self) -> None:
        """End what this owner holds, where the product can. Called once after each `connect` that did not raise."""

    @abstractmethod
    def write(self, record: Record) -> str:
        """Write the record and return its revision; raise `Conflict`, or whatever else refuses this record only."""

    @abstractmethod
    def remove(self, key: RecordKey) -> None:
        """Remove the record if it is ``mine`` or ``none``; raise a `RegistryError` if it is refused."""

    def write_all(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        """Write the records, in order; the answer has each one's revision, or why it was refused.

        One by one, by `write`. Override it, and `batch`, where the product writes many at once, as in a transaction.
        """
        return {record.key: self.__written(record) for record in records}

    def remove_all(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        """Remove the records, in order; the answer has what was refused. One by one, by `remove`, unless it is overridden."""
        return {key: error for key in keys if (error := self.__removed(key)) is not None}

    @abstractmethod
    def keep_alive(self) -> Collection[RecordKey]:
        """What `renew` promises."""

    @abstractmethod
    def load(self, bucket: Bucket, known: Revision | None) -> StoreSnapshot | None:
        """What `read` promises."""

    async def open(self) -> None:
        if not self.__opened:
            await self.__worker.run(self.__translated, self.__join)
            self.__opened = True

    async def close(self) -> None:
        self.__opened = False
        try:
            if self.__worker.running:
                with contextlib.suppress(RegistryError):
                    await self.__worker.run(self.__translated, self.__leave)
        finally:
            self.__worker.stop()

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        most = self.capabilities.max_value_bytes
        answers: dict[RecordKey, str | RegistryError] = {
            record.key: refusal for record in records if (refusal := too_large(record, most)) is not None
        }
        small = [record for record in records if len(record.value) <= most]
        for batch in self.__batches(small):
            answers |= await self.on_thread(partial(self.write_all, batch))
        return answers

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        refused: dict[RecordKey, RegistryError] = {}
        for batch in self.__batches(keys):
            refused |= await self.on_thread(partial(self.remove_all, batch))
        return refused

    async def renew(self) -> Collection[RecordKey]:
        return await self.on_thread(self.keep_alive, first=True)

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        return await self.on_thread(lambda: self.load(bucket, known))

    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        if not self.capabilities.list_services:
            raise Unsupported("this store cannot list: it declares list_services=False")
        found = await self.read(Bucket(parent, deep=True))
        paths = (one.record.bucket for one in found.records) if found is not None else ()
        return list(dict.fromkeys(path[len(parent)] for path in paths if len(path) > len(parent)))

    async def on_thread(self, work: Callable[[], T], *, first: bool = False) -> T:
        """Run ``work`` as one of the verbs, after those that wait, or with ``first`` before them. Raises `Closed` unless it is open."""
        if not self.__opened:
            raise Closed(f"the store in {self.__place} is not open")
        return await self.__worker.run(self.__translated, work, first=first)

    def __join(self) -> None:
        # Whoever asked before may have gone away meanwhile.
        if not self.__connected:
            self.connect()
            self.__connected = True

    def __leave(self) -> None:
        if self.__connected:
            self.__connected = False
            self.disconnect()

    def __translated(self, work: Callable[[], T]) -> T:
        try:
            with self.__turn:
                return work()
        except self.failures as error:
            raise Unavailable(f"{self.__place} cannot be used: {error}") from error

    def __batches(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        # One that is empty says as well whether the store is open.
        return (items[start : start + self.batch] for start in range(0, len(items) or 1, self.batch))

    def __written(self, record: Record) -> str | RegistryError:
        try:
            return self.write(record)
        except RegistryError as error:
            return error

    def __removed(self, key: RecordKey) -> RegistryError | None:
        try:
            self.remove(key)
        except RegistryError as error:
            return error
        return None


class BlockingConditionalStore(BlockingStore, ConditionalStore):
    """A `BlockingStore` with ``compare_and_set``: two verbs more that block, each one step that no other process can come between."""

    @abstractmethod
    def write_if(self, record: Record, expected: str | None) -> str:
        """Write the record if it is at the revision ``expected`` (None: absent), whoever owns it, and return the new revision.

        It becomes ``mine`` if it is owned. Raises `Conflict` if the revision is another.
        """

    @abstractmethod
    def remove_if(self, key: RecordKey, expected: str) -> None:
        """Remove the record if it is at the revision ``expected``, whoever owns it. Raises `Conflict` otherwise."""

    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        if (refusal := too_large(record, self.capabilities.max_value_bytes)) is not None:
            raise refusal
        return await self.on_thread(lambda: self.write_if(record, expected))

    async def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        await self.on_thread(lambda: self.remove_if(key, expected))
