"""Defects of what is written and read: whose a record is, and for how long it stays."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import redis

from planted.table import REDIS, REGISTRY, STORE, mutant
from sofa_registry_adapters.backends.memory.places import Entry, Places
from sofa_registry_adapters.backends.memory.sessions import Feed, Session
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.engine.assembly import Assembly
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.layouts import native
from sofa_registry_adapters.model.instance import Instance, Metadata
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, StoreSnapshot


@mutant(
    "A bucket is a bare prefix: `foo` has the records of `foobar`",
    "etcd's get_prefix, Kratos",
    f"{STORE}test_5_a_bucket_has_nothing_of_its_neighbours",
    f"{REGISTRY}test_15_neighbours[blocking]",
)
def prefix_neighbours() -> None:
    def read(self: Places, bucket: Bucket) -> list[Entry]:
        prefix = "/".join(bucket.path)
        return [one for one in self._root if "/".join(one.record.bucket).startswith(prefix)]

    def feeds_of(self: Space, key: RecordKey) -> Iterator[Feed]:
        for bucket, feeds in self._feeds.items():
            if "/".join(key.bucket).startswith("/".join(bucket.path)):
                yield from feeds

    Places.read, Space._feeds_of = read, feeds_of


@mutant(
    "The metadata of an instance is not written",
    "adapters that map to a narrower model",
    f"{REGISTRY}test_01_lookup_finds_every_field[blocking]",
)
def dropped_metadata() -> None:
    encode = native.encode_instance

    def without(instance: Instance) -> bytes:
        return encode(msgspec.structs.replace(instance, metadata=Metadata({})))

    native.encode_instance = without


@mutant(
    "A record that cannot be decoded fails the whole list",
    "Kratos on etcd, Hertz on ZooKeeper",
    f"{REGISTRY}test_26_one_bad_record[blocking]",
)
def a_bad_record_costs_the_list() -> None:
    def decode(self: Assembly, stored: Stored, seen: Any, rejected: list[Any]) -> Instance | None:
        return self._layout.decode(self._service, stored, seen)

    Assembly._decode = decode


@mutant(
    "A failed read is an empty list",
    "Hertz on Redis, APISIX",
    f"{REGISTRY}test_52_a_server_that_is_down",
    f"{STORE}test_7_a_closed_store_says_nothing_but_errors",
)
def an_error_taken_for_empty() -> None:
    read = MemoryStore.read

    async def calm(self: MemoryStore, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        try:
            return await read(self, bucket, known)
        except RegistryError:
            return StoreSnapshot(Revision())

    MemoryStore.read = calm


@mutant(
    "Whoever knows a revision is told that nothing changed",
    "caches that compare a time with a resolution of a second",
    f"{STORE}test_5_a_known_revision_hides_no_change",
)
def a_known_revision_hides_changes() -> None:
    read = Space.read

    def lazy(self: Space, session: Session, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        return None if known is not None and known.counter else read(self, session, bucket, known)

    Space.read = lazy


@mutant(
    "One refused record holds up the records behind it",
    "batches in one transaction",
    f"{STORE}test_2_put_answers_key_by_key",
)
def a_refusal_holds_up_the_rest() -> None:
    put = Space._put

    def all_or_nothing(self: Space, session: Session, records: Sequence[Record]) -> Mapping[RecordKey, Any]:
        with self._turn(session):
            self._revive(session)
            answers: dict[RecordKey, Any] = {}
            for record in records:
                refused = next((one for one in answers.values() if isinstance(one, RegistryError)), None)
                answers[record.key] = refused or put(self, session, record)
            return answers

    Space.put = all_or_nothing


@mutant(
    "A record of another owner is overwritten and stays the other's",
    "dubbo-python's create_or_update, SOFARPC",
    f"{STORE}test_1_put_over_anothers_record_is_a_conflict",
    f"{REGISTRY}test_46_the_newer_holds_the_id",
)
def an_adopted_foreign_node() -> None:
    put = Space._put

    def adopt(self: Space, session: Session, record: Record) -> Any:
        entry = self._places.get(record.key)
        if entry is not None and entry.owner not in (None, session.owner):
            return self._write(record, entry.owner)
        return put(self, session, record)

    Space._put = adopt


@mutant(
    "The older publisher of an id takes it back from the newer one",
    "Curator's delete and create on NodeExists",
    f"{REGISTRY}test_46_the_newer_holds_the_id",
)
def a_war_over_an_id() -> None:
    StoreRegistry._newer = lambda *_: True


@mutant(
    "A delete removes a record of another owner",
    "Curator, whose unregister deletes by path",
    f"{STORE}test_3_delete",
    f"{REGISTRY}test_46_the_older_may_leave",
)
def a_delete_of_anothers_record() -> None:
    def delete(self: Space, session: Session, keys: Sequence[RecordKey]) -> None:
        with self._turn(session):
            for key in keys:
                session.lost.discard(key)
                self._remove(key)

    Space.delete = delete


@mutant(
    "Every sign of life prolongs the life of all owners, the dead ones too",
    "Hertz on Redis: one expiry for a whole hash",
    f"{REDIS}test_40_the_killed_vanish",
)
def one_lifetime_for_all() -> None:
    renew = RedisStore.renew

    async def for_all(self: RedisStore) -> Collection[RecordKey]:
        server = self._target.addresses[0]
        with redis.Redis(server.host, server.port) as raw:
            for key in raw.scan_iter("*}:leases"):
                raw.zadd(key, dict.fromkeys(raw.zrange(key, 0, -1), int(time.time() * 1000) + 3_600_000))
        return await renew(self)

    RedisStore.renew = for_all


@mutant(
    "What should die with its owner is written as a permanent record",
    "Dubbo with dynamic=false, a plain SET beside a heartbeat",
    f"{STORE}test_1_put_writes_a_record_that_is_mine",
    f"{STORE}test_7_owned_records_vanish_with_their_owner",
)
def a_permanent_record_for_an_owned_one() -> None:
    write = Space._write

    def for_ever(self: Space, record: Record, owner: str | None) -> str:
        return write(self, record, None)

    Space._write = for_ever


@mutant(
    "Closing a store leaves its records behind",
    "go-micro on etcd, which never revokes its lease",
    f"{STORE}test_7_owned_records_vanish_with_their_owner",
)
def a_close_that_leaves_records() -> None:
    def leave(self: Space, session: Session) -> None:
        self._cut(lambda other: other is session)

    Space.leave = leave
