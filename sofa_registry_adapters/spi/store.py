"""Bytes-level SPI: a store moves records; a layout gives them a meaning; the engine does the rest.

A store never retries, never caches, has no timer and calls no listener. Each call is bounded by
its caller (it may be cancelled at any await, after which the outcome of a write is unknown) and
raises only errors of `sofa_registry_adapters.errors`. All methods run on one event loop, several at
a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import msgspec

from sofa_registry_adapters.errors import RegistryError, Unsupported, ValueTooLarge
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.options import Capabilities


class RecordKey(NamedTuple):
    """Where a record is: the bucket's path, and the record's name in it. Segments have no ``/``."""

    bucket: tuple[str, ...]
    name: str


class Bucket(msgspec.Struct, frozen=True):
    """A place that holds records: exactly this path, or with ``deep`` all below it as well.

    Never a bare prefix: the bucket ``foo`` has nothing of ``foobar``.
    """

    path: tuple[str, ...]
    deep: bool = False

    def holds(self, key: RecordKey) -> bool:
        """Whether a record at ``key`` is in this bucket."""
        if self.deep:
            return key.bucket[: len(self.path)] == self.path
        return key.bucket == self.path


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record. ``owned`` ones vanish with this process; others stay until they are deleted.

    ``container`` asks that the parents of the record vanish with their last child, where the product can.
    ``keep``: a permanent record that others may come to rely on; it stays when its writer withdraws.
    """

    bucket: tuple[str, ...]
    name: str
    value: bytes
    owned: bool = True
    container: bool = True
    keep: bool = False

    @property
    def key(self) -> RecordKey:
        """Where the record is."""
        return RecordKey(self.bucket, self.name)


def too_large(record: Record, most: int) -> ValueTooLarge | None:
    """Why a record with more than ``most`` bytes (`Capabilities.max_value_bytes`) cannot be written; None if it has no more."""
    size = len(record.value)
    if size <= most:
        return None
    place = "/".join(record.bucket)
    return ValueTooLarge(
        f"the record {record.name!r:.200} in {place!r:.200} has {size} bytes, at most {most} are possible"
    )


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A record as it stands in the store.

    ``revision`` is opaque, compared for equality only. ``owner`` is ``mine`` for a record that lives and
    dies with this open store, ``other`` for one that belongs to another owner, ``none`` for a permanent one.
    """

    record: Record
    revision: str
    owner: Literal["mine", "other", "none"]

    @property
    def key(self) -> RecordKey:
        """Where the record is."""
        return RecordKey(self.record.bucket, self.record.name)


class StoreSnapshot(msgspec.Struct, frozen=True):
    """All records of a bucket at one revision."""

    revision: Revision
    records: Sequence[Stored] = ()


class StorePatch(msgspec.Struct, frozen=True):
    """What changed in a bucket since the message before: whole records, and keys that are gone."""

    revision: Revision
    changed: Sequence[Stored] = ()
    removed: Sequence[RecordKey] = ()


class RecordStore(ABC):
    """Seven verbs over one connection, which is one owner.

    Promises, each with a test in `sofa_registry_adapters.testing.store_contract`:

    1. `put` of an owned record writes it, or overwrites it where it is ``mine`` already; where it is ``other`` the
       answer for that key is `Conflict` and nothing is written. A permanent record overwrites a permanent one. A
       record of the other kind in the place is a `Conflict`, too.
    2. `put` and `delete` answer key by key; one refused record does not hold up the rest. They raise
       only when nothing can be said (then the outcome is unknown).
    3. `delete` removes records that are ``mine`` or ``none``; one that is absent, or ``other``, counts as done.
    4. `renew` keeps the owner alive and returns keys that were put since `open` and are known to be missing or no
       longer ``mine``, or not as they were put, each at least once until it is put or deleted again; so may be keys that were deleted
       and are there again. O(1) when nothing happened. It
       raises when the owner cannot be kept alive or a watch connection is cut; a lease or session that was lost
       and begun anew may be told by raising once, by the keys, or by both.
    5. `read` of a bucket that does not exist is an empty snapshot, whose epoch may be empty as well; a failure is
       an error, never an empty snapshot.
    6. `watch` yields a `StoreSnapshot`, then a `StorePatch` for each batch of changes, none lost between the two; a
       further `StoreSnapshot` at any time starts again from there. It raises `Unavailable` when it is cut, by
       `close` as well.
    7. After `close`, or when the process dies, owned records vanish; nobody else's do. Verbs on a store that
       is not open raise a `RegistryError`.

    A path is a bucket or a record, never both: layouts keep them apart. A segment may have 3 100 characters (255
    of any script, percent-encoded). A store without a counter may count with a clock, for instance in nanoseconds, as long as it
    never goes back while the data lives; ``known`` is an offer that a store may decline by reading.
    """

    capabilities: ClassVar[Capabilities]
    lease: float = 0.0
    """Seconds without `renew` after which owned records may vanish; 0 means never."""

    @abstractmethod
    async def open(self) -> None:
        """Connect and become an owner. May be called again after it raised, and after `close`."""

    @abstractmethod
    async def close(self) -> None:
        """Drop the connection; owned records vanish at once where the product can. Never raises."""

    @abstractmethod
    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        """Write the records, in order; the answer has each one's revision, or why it was refused."""

    @abstractmethod
    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        """Delete the records, in order; the answer has what was refused."""

    @abstractmethod
    async def renew(self) -> Collection[RecordKey]:
        """Keep this owner alive; the answer has own records that are missing or no longer ours."""

    async def lost(self) -> None:
        """Return when `renew` has certainly something to find: it is then called at once. By default never."""
        import asyncio

        await asyncio.Event().wait()

    @abstractmethod
    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        """All records of the bucket; None if it certainly still is at the revision ``known``."""

    def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        """A snapshot, then each change. Ends only by raising, or when the iterator is closed.

        A store that declares ``push=False`` leaves it out; the engine then reads again and again.
        """
        raise Unsupported("this store cannot watch: it declares push=False")


class ConditionalStore(ABC):
    """Mix-in of stores with ``compare_and_set``."""

    @abstractmethod
    async def compare_and_put(self, record: Record, expected: str | None) -> str:
        """Write the record if it is at the revision ``expected`` (None: absent), whoever owns it.

        It becomes ``mine`` if it is owned. Returns the new revision; raises `Conflict` if the
        revision is another.
        """

    @abstractmethod
    async def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        """Delete the record if it is at the revision ``expected``. Raises `Conflict` otherwise."""


class ResumableStore(ABC):
    """Mix-in of stores that can tell what changed since a revision, so that a watch that was cut costs no second reading."""

    @abstractmethod
    def resume(self, bucket: Bucket, since: Revision) -> AsyncIterator[StoreSnapshot | StorePatch]:
        """As `watch`, for one who has what a watch of this bucket told up to the revision ``since``.

        It begins with a `StorePatch`, which may be empty, and goes on with what changed since; where the store cannot be
        certain of that, it begins with a `StoreSnapshot`.
        """


class ListableStore(ABC):
    """Mix-in of stores that can say which buckets there are."""

    @abstractmethod
    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        """The names of the buckets right below ``parent`` that hold a record at any depth."""
