"""Defects that peers have or had, planted into the library one at a time, and the tests that must find them.

As a pytest plug-in (`-p mutants`, with SOFA_MUTANT in the environment) it plants one before the tests are loaded.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import redis

from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.backends.memory.places import Entry, Places
from sofa_registry_adapters.backends.memory.sessions import Feed, Session
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.engine import mailbox as mailboxes
from sofa_registry_adapters.engine import retry, store_config
from sofa_registry_adapters.engine.assembly import Assembly
from sofa_registry_adapters.engine.config_core import ConfigEngine
from sofa_registry_adapters.engine.config_mirror import ConfigMirror
from sofa_registry_adapters.engine.envelope import Envelope
from sofa_registry_adapters.engine.keeper import Keeper
from sofa_registry_adapters.engine.mailbox import Mailbox
from sofa_registry_adapters.engine.protection import Protection
from sofa_registry_adapters.engine.retry import Schedule
from sofa_registry_adapters.engine.store_config import StoreConfig, record_key
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.layouts import native
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.model.instance import Instance, Metadata
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.registry import Rejected, Snapshot
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, StorePatch, StoreSnapshot

VARIABLE = "SOFA_MUTANT"
REGISTRY = "tests/contract/test_registry_memory.py::TestMemoryRegistry::"
REDIS = "tests/contract/test_registry_redis.py::TestRedisRegistry::"
STORE = "tests/contract/test_store_memory.py::TestMemoryStore::"
CONFIG = "tests/contract/test_config_memory.py::TestMemoryConfig::"
CONFIG_REDIS = "tests/contract/test_config_redis.py::TestRedisConfig::"


class Mutant(NamedTuple):
    """A defect, who has or had it, the tests that must fail on it, and what plants it."""

    name: str
    defect: str
    seen_in: str
    tests: tuple[str, ...]
    plant: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}


def mutant(defect: str, seen_in: str, *tests: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enter a mutant under the name of its function."""

    def enter(plant: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[plant.__name__] = Mutant(plant.__name__.replace("_", " "), defect, seen_in, tests, plant)
        return plant

    return enter


def pytest_configure() -> None:
    """Plant the mutant that the environment names; none without it."""
    name = os.environ.get(VARIABLE)
    if name:
        MUTANTS[name].plant()


# What is written and read.


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


# Whose a record is, and for how long it stays.


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


# Staying registered.


@mutant(
    "A renewal that succeeds is taken for presence: what is gone stays gone",
    "tooz on etcd, Redis and ZooKeeper; nacos-sdk-python",
    f"{STORE}test_4_renew_reports_what_was_deleted_behind_the_owners_back",
    f"{REGISTRY}test_47_deleted_behind_its_back",
    f"{REGISTRY}test_48_the_lease_is_over",
)
def renewal_taken_for_presence() -> None:
    renew = Space.renew

    def content(self: Space, session: Session) -> frozenset[RecordKey]:
        renew(self, session)
        return frozenset()

    Space.renew = content


@mutant(
    "After a few failures nobody tries any more",
    "Kratos, Kitex and Hertz: five attempts",
    f"{REGISTRY}test_50_restart[3.0]",
)
def giving_up_after_five_attempts() -> None:
    delay = Schedule.delay

    def tired(self: Schedule, attempt: int) -> float:
        return 3600.0 if self is retry.REACHABILITY and attempt >= 5 else delay(self, attempt)

    Schedule.delay = tired


@mutant(
    "What was withdrawn is published again by a recovery",
    "Kratos on ZooKeeper, Curator",
    f"{REGISTRY}test_53_a_withdrawal_during_an_outage[unnoticed]",
)
def a_zombie_after_its_withdrawal() -> None:
    put, renew = Space.put, Space.renew
    written: dict[str, dict[RecordKey, Record]] = {}

    def remember(self: Space, session: Session, records: Sequence[Record]) -> Mapping[RecordKey, Any]:
        for one in records:
            # The first version: a later one may say that it is leaving.
            written.setdefault(session.owner, {}).setdefault(one.key, one)
        return put(self, session, records)

    def resurrect(self: Space, session: Session) -> frozenset[RecordKey]:
        missing = [one for key, one in written.get(session.owner, {}).items() if self.peek(key) is None]
        if missing:
            put(self, session, missing)
        return renew(self, session)

    Space.put, Space.renew = remember, resurrect


@mutant(
    "An instance is deleted without a word before",
    "every peer but Nacos: consumers learn of it from failed calls",
    f"{REGISTRY}test_06_withdrawal_is_told_before_it_is_done[blocking]",
)
def a_withdrawal_that_is_not_told() -> None:
    withdraw = Keeper.withdraw
    Keeper.withdraw = lambda self, publication, **_: withdraw(self, publication, told=False)


# Watching.


async def _patches_only(self: MemoryStore, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
    messages = _watch(self, bucket)
    try:
        await anext(messages)
        async for message in messages:
            yield message
    finally:
        await messages.aclose()


_watch: Any = MemoryStore.watch


@mutant(
    "A watch begins with the first change, not with what is there",
    "config sources that watch after they loaded",
    f"{STORE}test_6_a_watch_begins_with_what_is_there",
    f"{REGISTRY}test_20_first_notice[blocking]",
)
def a_lost_first_snapshot() -> None:
    MemoryStore.watch = _patches_only


@mutant(
    "What changes between the first snapshot and the first patch is never told",
    "Kratos' config on etcd: the watch starts after the load",
    f"{STORE}test_6_nothing_is_lost_between_the_snapshot_and_the_patches",
)
def a_gap_behind_the_snapshot() -> None:
    deliver = Feed.deliver
    delivered: dict[int, int] = {}

    def late(self: Feed, patch: StorePatch) -> None:
        delivered[id(self)] = delivered.get(id(self), 0) + (not self.stale)
        if delivered[id(self)] != 1:
            deliver(self, patch)

    Feed.deliver = late


@mutant(
    "A watch that was cut off goes on, and is told of nothing",
    "etcd3, Redis subscriptions across a reconnect",
    f"{STORE}test_6_a_cut_watch_raises",
    f"{REGISTRY}test_54_cut_connections",
)
def a_lost_watch_after_a_cut() -> None:
    def cut(self: Space, affected: Callable[[Session], bool]) -> None:
        for feed in self._all_feeds():
            if affected(feed.session):
                self.unsubscribe(feed)

    Space._cut = cut


@mutant(
    "A watch that was cut off ends as if all had been said",
    "nacos-sdk-python: a clean end of the stream opens no other",
    f"{STORE}test_6_a_cut_watch_raises",
)
def a_watch_that_swallows_its_end() -> None:
    async def watch(self: MemoryStore, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        messages = _watch(self, bucket)
        try:
            async for message in messages:
                yield message
        except RegistryError:
            return
        finally:
            await messages.aclose()

    MemoryStore.watch = watch


@mutant(
    "A counter goes back within an epoch",
    "reads from a follower that lags behind, versions from a wall clock",
    f"{STORE}test_5_revisions_go_up",
    f"{STORE}test_6_changes_come_in_order",
)
def a_counter_that_goes_back() -> None:
    Space.revision = property(lambda self: Revision(self._epoch, 1_000_000 - self._counter))


@mutant(
    "A registry that lost everything empties the lists of all consumers",
    "Dubbo and Nacos with protection off, which is their default",
    f"{REGISTRY}test_51_wipe",
)
def an_empty_push_that_is_believed() -> None:
    def sort(
        self: Protection, gone: Collection[str], visible: Mapping[str, Instance], now: float, **_: bool
    ) -> tuple[list[str], list[str]]:
        return [name for name in gone if name in visible], []

    Protection.sort = sort


@mutant(
    "A first notice waits for an instance: an empty service is never told of",
    "Kratos' and go-zero's resolvers, which refuse empty lists",
    f"{REGISTRY}test_20_first_notice[blocking]",
)
def an_empty_view_that_is_withheld() -> None:
    watch = StoreRegistry.watch

    async def full(self: StoreRegistry, service: Any) -> AsyncIterator[Any]:
        messages: Any = watch(self, service)
        try:
            async for message in messages:
                if not isinstance(message, Snapshot) or message.instances:
                    yield message
        finally:
            await messages.aclose()

    StoreRegistry.watch = full


# Listeners.


@mutant(
    "Listeners are called under a lock that the verbs need",
    "nacos-sdk-python: a listener that looks something up waits for ever",
    f"{REGISTRY}test_32_a_listener_that_calls_back[blocking]",
)
def a_listener_called_under_a_lock() -> None:
    call, nudge = mailboxes.call, Mailbox.nudge
    lock = threading.Lock()

    def locked(listener: Any, item: object, failed: Any) -> None:
        with lock:
            call(listener, item, failed)

    def waiting(self: Mailbox) -> None:
        # In vain, and then on: a test run has to end.
        if lock.acquire(timeout=4.0):
            lock.release()
        nudge(self)

    mailboxes.call, Mailbox.nudge = locked, waiting


@mutant(
    "A listener that raises ends the delivery to all listeners of the service",
    "nacos-sdk-python",
    f"{REGISTRY}test_30_a_listener_that_fails[blocking]",
)
def a_failing_listener_that_stops_others() -> None:
    def carry(self: Any, step: Callable[[], Any], listener: Any, failed: Any) -> None:
        def work() -> None:
            while not broken and (item := step()) is not None:
                mailboxes.call(listener, item, lambda who, error: (broken.append(who), failed(who, error)))

        self._pool.run(work)

    broken: list[object] = []
    mailboxes.ThreadCourier.carry = carry


# What is declared.


@mutant(
    "A capability is declared absent, and works",
    "tooz: drivers that raise NotImplemented where they need not",
    f"{STORE}test_what_is_declared_absent_is_absent",
    f"{REGISTRY}test_80_as_declared[push]",
)
def a_capability_that_is_denied() -> None:
    less = msgspec.structs.replace(memory.CAPABILITIES, push=False)
    MemoryStore.capabilities = less
    memory.BACKEND = msgspec.structs.replace(memory.BACKEND, capabilities=less)


@mutant(
    "A capability is declared, and does not work",
    "tooz: skip on NotImplemented makes a broken driver green",
    f"{STORE}test_listing",
    f"{REGISTRY}test_10_services[blocking]",
    f"{REGISTRY}test_80_as_declared[list_services]",
)
def a_capability_that_is_missing() -> None:
    Space.buckets = lambda *_: []


# Configuration.


@mutant(
    "A condition is looked at before, and then written over whatever is there",
    "config sources without a conditional write, Nacos' publishConfig without casMd5",
    f"{CONFIG_REDIS}test_23_two_writers",
    f"{CONFIG_REDIS}test_24_one_creates",
)
def a_look_before_a_leap() -> None:
    async def replace(self: StoreConfig, key: ConfigKey, present: Any, fresh: Envelope) -> bool:
        if present.value is not None:
            await self._archive(key, present.value)
        await self._store.put((Record(*record_key(key), fresh.encode(), owned=False),))
        return True

    StoreConfig._replace = replace


@mutant(
    "A revision is a digest of the content, and comes back with it",
    "Nacos: casMd5",
    f"{CONFIG}test_22_never_the_same_again[blocking]",
)
def a_revision_that_comes_back() -> None:
    Envelope.revision = property(lambda self: hashlib.sha256(self.data).hexdigest())


@mutant(
    "A watch that is cut off is told as a removal",
    "listeners that are given null when a read fails",
    f"{CONFIG}test_70_restart",
    f"{CONFIG}test_73_cut_connections",
)
def a_cut_that_is_a_removal() -> None:
    note = ConfigMirror._note_failure

    def removed(self: ConfigMirror, stream: Any, failures: int) -> None:
        note(self, stream, failures)
        self._change(None, stale=False)

    ConfigMirror._note_failure = removed


@mutant(
    "What a server lost is told as removed",
    "every center whose only sign of a removal is that nothing is there",
    f"{CONFIG}test_57_a_value_that_is_lost[blocking]",
    f"{CONFIG}test_71_wipe",
)
def a_loss_that_is_a_removal() -> None:
    found = store_config._found
    store_config._said = lambda key, stored: (
        None if stored is None else found(key, Envelope.decode(stored.record.value))
    )


@mutant(
    "A value that cannot be decoded is told as none",
    "sources that catch every error of a decoder",
    f"{CONFIG}test_56_a_value_that_cannot_be_decoded[blocking]",
)
def a_bad_value_that_is_a_removal() -> None:
    said = store_config._said

    def calm(key: ConfigKey, stored: Any) -> Any:
        answer = said(key, stored)
        return None if isinstance(answer, Rejected) else answer

    store_config._said = calm


@mutant(
    "A removal is not told",
    "Kratos' config, viper: only values are",
    f"{CONFIG}test_51_each_change[blocking]",
    f"{CONFIG}test_52_a_burst[blocking]",
)
def a_removal_that_is_not_told() -> None:
    change = ConfigMirror._change

    def kept(self: ConfigMirror, item: Any, *, stale: bool) -> None:
        if item is not None or not self.known.is_set():
            change(self, item, stale=stale)

    ConfigMirror._change = kept


@mutant(
    "The history begins with the next publication: what it replaces is not in it",
    "histories that are written beside the value",
    f"{CONFIG}test_30_the_last_twenty[blocking]",
    f"{CONFIG}test_31_of_a_removed_key[blocking]",
    f"{CONFIG}test_25_unconditional_writers",
)
def a_history_with_gaps() -> None:
    archive = StoreConfig._archive

    async def sometimes(self: StoreConfig, key: ConfigKey, value: Envelope) -> None:
        if value.serial % 2:
            await archive(self, key, value)

    StoreConfig._archive = sometimes


@mutant(
    "A read is answered from a cache of a tenth of a second",
    "clients with a local cache: Nacos' snapshot, Apollo",
    f"{CONFIG}test_16_own_writes[blocking]",
)
def a_read_from_a_cache() -> None:
    get = ConfigEngine.get
    kept: dict[ConfigKey, tuple[float, Any]] = {}

    async def cached(self: ConfigEngine, key: ConfigKey, timeout: float) -> Any:
        moment, item = kept.get(key, (0.0, None))
        if time.monotonic() - moment > 0.1:
            item = await get(self, key, timeout)
            kept[key] = time.monotonic(), item
        return item

    ConfigEngine.get = cached


@mutant(
    "What is served without the center is not flagged",
    "Nacos' failover and snapshot files: their content is given as any other",
    f"{CONFIG}test_70_restart",
    f"{CONFIG}test_81_start_from_the_disk",
)
def a_stale_value_that_looks_fresh() -> None:
    known = ConfigEngine._last_known

    async def fresh(self: ConfigEngine, key: ConfigKey) -> Any:
        item = await known(self, key)
        return None if item is None else msgspec.structs.replace(item, stale=False)

    ConfigEngine._last_known = fresh


@mutant(
    "A listener that publishes its own key goes round for ever, and nobody is told",
    "every center",
    f"{CONFIG}test_65_one_that_calls_itself[blocking]",
)
def a_loop_in_silence() -> None:
    ConfigEngine._note_loop = lambda *_: None


# The page.


def page() -> str:
    """The table of mutants for the reference."""
    rows = (
        f"| {one.name[:1].upper()}{one.name[1:]} | {one.defect} | {one.seen_in} | {'<br>'.join(map(_shown, one.tests))} |\n"
        for one in MUTANTS.values()
    )
    return (
        "# Mutants\n\n<!-- Written by tests/mutants/mutants.py: change it, then run it. -->\n\n"
        "Does the conformance kit find what it is there to find? Each line is a defect that a library of this field has, "
        "or had. It is planted into this library, and the named tests of the kit have to fail within seconds, on "
        "`memory://` unless another backend is named. Without a defect the same tests pass. `pytest tests/mutants` shows it.\n\n"
        f"{len(MUTANTS)} mutants.\n\n| mutant | what is wrong | seen in | caught by |\n| --- | --- | --- | --- |\n{''.join(rows)}"
    )


def _shown(test: str) -> str:
    contracts = {
        STORE: "store",
        CONFIG: "config center",
        CONFIG_REDIS: "config center on redis",
        REDIS: "registry on redis",
        REGISTRY: "registry",
    }
    contract = next(name for prefix, name in contracts.items() if test.startswith(prefix))
    return f"{contract}: `{test.rpartition('::')[2]}`"


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "reference" / "mutants.md").write_text(page(), encoding="utf-8")
