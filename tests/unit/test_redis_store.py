"""The Redis store beyond the contract: what raw hands, faults and other users of the server do to it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import pathlib
import shlex
import shutil
import subprocess
import sys
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.redis import BACKEND
from sofa_registry_adapters.backends.redis.commands import ServerCommands
from sofa_registry_adapters.backends.redis.scripting import Command
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.errors import Closed, Conflict, Denied, InvalidURL, Refused, RegistryError, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.faults.ports import free_port
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service

PATH = ("services", "echo")
HERE = Bucket(PATH)


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(30):
                await test(*args, **kwargs)
            await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")

        asyncio.run(main())

    return run


def record(name: str = "a", value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PATH, name, value, owned=owned)


def key(name: str = "a") -> RecordKey:
    return RecordKey(PATH, name)


class Raw:
    """An operator with a shell on the server, and the names of the keys of `PATH`."""

    def __init__(self, service: Service, namespace: str) -> None:
        self.client = redis.Redis(host=service.host, port=service.port)
        head = f"sofa:{{{namespace}/services/echo}}:"
        self.records, self.leases, self.names = head + "records", head + "leases", head + "names"
        self.log, self.state, self.changes = head + "log", head + "state", head + "changes"


class Follower:
    """A watch that is opened again when it is cut, as the engine does it."""

    def __init__(self, store: RedisStore, bucket: Bucket = HERE) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.cuts = 0
        self.snapshots = 0
        self._store = store
        self._bucket = bucket
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(self._bucket)) as messages:  # type: ignore[type-var]
                    async for message in messages:
                        self._apply(message)
            except Unavailable:
                self.cuts += 1
                await asyncio.sleep(0.01)
            except Closed:
                return

    def _apply(self, message: StoreSnapshot | StorePatch) -> None:
        if isinstance(message, StoreSnapshot):
            self.snapshots += 1
            self.values = {one.key: one.record.value for one in message.records}
        else:
            self.values |= {one.key: one.record.value for one in message.changed}
            for gone in message.removed:
                self.values.pop(gone, None)
        self.messages.append(message)

    async def shows(self, expected: dict[RecordKey, bytes], seconds: float = 5.0) -> None:
        try:
            await eventually_async(lambda: self.messages and self.values == expected, seconds)
        except AssertionError:
            assert self.values == expected
            raise

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def raw(redis_service: Service, namespace: str) -> Iterator[Raw]:
    raw = Raw(redis_service, namespace)
    yield raw
    raw.client.close()


Make = Callable[..., RedisStore]


@pytest.fixture
def make(redis_service: Service, namespace: str) -> Make:
    return functools.partial(store_at, redis_service.host, redis_service.port, namespace)


def store_at(host: str, port: int, namespace: str, user: str = "", **options: str | float) -> RedisStore:
    url = f"redis://{user}{host}:{port}/0?namespace={namespace}"
    return RedisStore(parse_target(url, BACKEND, options), SystemClock())


@asynccontextmanager
async def opened(*stores: RedisStore) -> AsyncIterator[None]:
    for store in stores:
        await store.open()
    try:
        yield
    finally:
        for store in stores:
            await store.close()


@asynccontextmanager
async def following(store: RedisStore, bucket: Bucket = HERE) -> AsyncIterator[Follower]:
    follower = Follower(store, bucket)
    try:
        await eventually_async(lambda: follower.messages, 5.0, "a first message")
        yield follower
    finally:
        await follower.close()


async def kill(store: RedisStore) -> None:
    """End the store as a killed process ends: without a word to the server."""
    session = store._session
    assert session is not None
    for path in session.holdings.paths():
        session.holdings.forget(path)
    await store.close()


async def values(store: RedisStore, bucket: Bucket = HERE) -> dict[RecordKey, bytes]:
    found = await store.read(bucket)
    assert found is not None
    return {one.key: one.record.value for one in found.records}


async def missing(store: RedisStore, expected: set[RecordKey], seconds: float) -> None:
    async def all_seen() -> bool:
        with contextlib.suppress(Unavailable):
            return set(await store.renew()) == expected
        return False

    await eventually_async(all_seen, seconds, "renew reports what is missing", interval=0.2)


@bounded
async def test_a_record_of_a_killed_owner_is_taken_when_its_lease_is_over(make: Make) -> None:
    first, second = make(lease=1), make(lease=1)
    async with opened(first, second):
        await first.put([record()])
        await kill(first)
        answers = await second.put([record(value=b"2")])
        assert isinstance(answers[key()], Conflict)

        async def taken() -> bool:
            return isinstance((await second.put([record(value=b"2")]))[key()], str)

        await eventually_async(taken, 2.5, "the lease is over")
        assert await values(second) == {key(): b"2"}
        assert not await second.renew()


@bounded
async def test_a_killed_owners_records_vanish_for_one_who_only_watches(make: Make) -> None:
    owner, watcher = make(lease=1), make(lease=1)
    async with opened(owner, watcher), following(watcher) as follower:
        await owner.put([record(str(number)) for number in range(20)])
        await follower.shows({key(str(number)): b"1" for number in range(20)})
        await kill(owner)

        async def gone() -> bool:
            await watcher.renew()
            return not follower.values

        await eventually_async(gone, 1.0 * 1.15 + 1.0, "I5: the lease and a bit", interval=0.2)
        assert follower.snapshots == 1, "their leaving was told, not read"


@bounded
async def test_neighbours_with_the_same_beginning(make: Make) -> None:
    store = make()
    paths = [("services", "foo"), ("services", "foobar"), ("services", "foo", "bar"), ("services",)]
    async with opened(store):
        await store.put([Record(path, "x", b"1") for path in paths])
        assert set(await values(store, Bucket(("services", "foo")))) == {RecordKey(("services", "foo"), "x")}
        assert {one.bucket for one in await values(store, Bucket(("services", "foo"), deep=True))} == {
            ("services", "foo"),
            ("services", "foo", "bar"),
        }
        assert {one.bucket for one in await values(store, Bucket((), deep=True))} == set(paths)
        assert set(await store.buckets(("services",))) == {"foo", "foobar"}
        assert list(await store.buckets(())) == ["services"]
        assert list(await store.buckets(("services", "foo"))) == ["bar"]


HARD = ["*", "?", "[ab]", "\\", "^-", "{x}", "}{", "~1", "%2F", ":", "a b", "ü€😀", "\x1f", "-", "0", "\n", "\udc80"]


@pytest.mark.parametrize("hard", HARD)
def test_hard_names_stay_apart(make: Make, hard: str) -> None:
    @bounded
    async def check() -> None:
        store = make()
        async with (
            opened(store),
            following(store, Bucket((hard,))) as exact,
            following(store, Bucket((hard,), deep=True)) as deep,
        ):
            wanted = {RecordKey((hard,), hard): b"1", RecordKey((hard, hard), hard): b"\x1f\x00\n"}
            others = [RecordKey((other,), other) for other in HARD if other != hard]
            await store.put([Record(at.bucket, at.name, value) for at, value in wanted.items()])
            await store.put([Record(at.bucket, at.name, b"2") for at in others])
            await deep.shows(wanted)
            await exact.shows({RecordKey((hard,), hard): b"1"})
            assert await values(store, Bucket((hard,), deep=True)) == wanted
            assert set(await store.buckets(())) == set(HARD)

    check()


@bounded
async def test_a_flushed_server_is_noticed_at_the_next_renew(make: Make, own_redis: OwnService) -> None:
    service = own_redis()
    store, watcher = (store_at(service.host, service.port, "") for _ in range(2))
    keys = {RecordKey(("services", str(number)), "a") for number in range(120)}
    records = [Record(one.bucket, one.name, b"1") for one in keys]
    async with opened(store, watcher), following(watcher, Bucket(("services",), deep=True)) as follower:
        await store.put(records)
        await follower.shows(dict.fromkeys(keys, b"1"))
        assert not await store.renew()
        with contextlib.closing(redis.Redis(host=service.host, port=service.port)) as client:
            client.flushall()
        assert set(await store.renew()) == keys
        for _ in range(4):
            await watcher.renew()
        await follower.shows({})
        assert set(await store.renew()) == keys, "until they are put"
        await store.put(records)
        assert not await store.renew()
        await follower.shows(dict.fromkeys(keys, b"1"))
        assert set(await watcher.buckets(("services",))) == {one.bucket[1] for one in keys}


@bounded
async def test_a_server_that_comes_back_empty(own_redis: OwnService) -> None:
    service = own_redis()
    store, watcher = (store_at(service.host, service.port, "") for _ in range(2))
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        epoch = follower.messages[-1].revision.epoch
        service.wipe()
        await follower.shows({})
        assert follower.messages[-1].revision.epoch != epoch
        await missing(store, {key()}, 5.0)
        await store.put([record()])
        await follower.shows({key(): b"1"})
        assert follower.cuts >= 1


@bounded
async def test_cut_subscriptions_lose_nothing(make: Make, raw: Raw) -> None:
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        number = 0
        for _ in range(20):
            before = follower.cuts
            while follower.cuts == before:
                if number % 10 == 0:
                    raw.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await store.put([record(str(number % 50), b"%d" % number)])
                if number % 7 == 0:
                    await store.delete([key(str((number - 3) % 50))])
                number += 1
        assert follower.cuts >= 20
        await follower.shows(await values(store))
        assert not await store.renew()


@bounded
async def test_a_server_that_went_back_in_time_is_noticed(make: Make, raw: Raw) -> None:
    """A replica that became the primary without the newest writes has the same epoch and other changes."""
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record(f"{number}", owned=False) for number in range(10)])
        await follower.shows({key(f"{number}"): b"1" for number in range(10)})
        epoch = follower.messages[-1].revision.epoch
        for number in range(5, 10):
            raw.client.hdel(raw.records, str(number))
            raw.client.xdel(raw.log, f"{number + 1}-0")
        last = raw.client.xrevrange(raw.log, count=1)[0]
        assert last[0] == b"5-0"
        kept = [(name, fields) for name, fields in raw.client.xrange(raw.log)]
        raw.client.delete(raw.log)
        for name, fields in kept:
            raw.client.xadd(raw.log, fields, id=name)
        raw.client.hset(raw.state, mapping={"rev": 5, "count": 5, "nonce": last[1][b"n"]})
        await store.put([record(f"new-{number}", owned=False) for number in range(7)])
        await follower.shows(await values(store))
        assert follower.messages[-1].revision.epoch != epoch


@bounded
async def test_messages_that_never_came_are_noticed_by_renew(make: Make, raw: Raw) -> None:
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        deliver = watcher._session.feed._deliver  # type: ignore[union-attr]
        watcher._session.feed._deliver = lambda *_: None  # type: ignore[union-attr, method-assign]
        await store.put([record(value=b"2")])
        watcher._session.feed._deliver = deliver  # type: ignore[union-attr, method-assign]
        for _ in range(3):
            await watcher.renew()
        await follower.shows({key(): b"2"})
        assert follower.snapshots == 1, "the log was enough"


@bounded
async def test_a_record_deleted_by_hand_is_noticed(make: Make, raw: Raw) -> None:
    store, other = make(), make()
    async with opened(store, other):
        await store.put([record(str(number)) for number in range(10)])
        await other.put([record("other")])
        assert not await store.renew()
        assert not await other.renew()
        raw.client.hdel(raw.records, "3", "other")
        await store.put([record("10")])
        assert set(await store.renew()) == {key("3")}
        assert set(await other.renew()) == {key("other")}
        await store.put([record("3")])
        await other.put([record("other")])
        for _ in range(3):
            assert not await store.renew()
            assert not await other.renew()
        assert len(await values(store)) == 12


@pytest.mark.parametrize("part", ("records", "leases", "names", "log", "state"))
def test_a_key_that_is_evicted_is_made_good(make: Make, raw: Raw, part: str) -> None:
    @bounded
    async def check() -> None:
        store, watcher = make(), make()
        wanted = [record(str(number)) for number in range(10)]
        async with opened(store, watcher), following(watcher) as follower:
            await store.put(wanted)
            await store.put(wanted)
            assert not await store.renew()
            raw.client.delete(getattr(raw, part))
            for _ in range(3):
                lost = {at.name for at in await store.renew()}
                await store.put([one for one in wanted if one.name in lost])
                await watcher.renew()
            assert not await store.renew()
            await store.put([record("new", b"2")])
            expected = {one.key: one.value for one in wanted} | {key("new"): b"2"}
            assert await values(watcher) == expected
            await follower.shows(expected)
            await store.close()
            await follower.shows({})

    check()


@bounded
async def test_values_written_by_hand_are_records_of_nobody(make: Make, raw: Raw) -> None:
    store = make()
    async with opened(store), following(store) as follower:
        await store.put([record()])
        raw.client.hset(raw.records, "strange", b"\xff\xfe")
        raw.client.hset(raw.records, b"\xff", b"x\x1fy")
        found = await store.read(HERE)
        assert found is not None
        assert {(one.key.name, one.owner) for one in found.records} == {
            ("a", "mine"),
            ("strange", "none"),
            ("\udcff", "none"),
        }
        await store.delete([key("strange"), key("\udcff")])
        await follower.shows({key(): b"1"})


@bounded
async def test_messages_that_are_not_ours_harm_nothing(make: Make, raw: Raw) -> None:
    store = make()
    async with opened(store), following(store) as follower, following(store, Bucket((), deep=True)) as deep:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        good = b"1 e n 1\n9 p 1 1\nab"
        for data in (
            b"",
            b"\xff",
            b"\n",
            b"1\n",
            b"2 e n 0\n",
            b"1 e n 9\n",
            good,
            good + b"x",
            good[:-1],
            b"x" * 100_000,
        ):
            raw.client.publish(raw.changes, data)
        raw.client.publish(raw.changes.replace("services", "strange"), good)
        await store.put([record("b")])
        for one in (follower, deep):
            await one.shows({key(): b"1", key("b"): b"1"})
            assert not one.cuts


@bounded
async def test_a_server_that_forgot_the_scripts(make: Make, raw: Raw) -> None:
    store = make()
    async with opened(store):
        for number in range(3):
            raw.client.script_flush()
            await store.put([record(str(at), b"%d" % number) for at in range(1200)])
            raw.client.script_flush()
            assert not await store.renew()
        assert set((await values(store)).values()) == {b"2"}


@bounded
async def test_ten_thousand_records(make: Make) -> None:
    store, watcher = make(), make()
    records = [record(f"10.0.0.1:{number}", b"v" * 280) for number in range(10_000)]
    async with opened(store, watcher), following(watcher) as follower:
        began = asyncio.get_running_loop().time()
        answers = await store.put(records)
        assert asyncio.get_running_loop().time() - began < 3.0  # 0.15 s on an idle machine
        assert not [one for one in answers.values() if isinstance(one, RegistryError)]
        expected = {one.key: one.value for one in records}
        await follower.shows(expected)
        assert await values(watcher) == expected
        feed = watcher._session.feed  # type: ignore[union-attr]
        assert feed is not None
        sizes = []
        deliver = feed._deliver
        feed._deliver = lambda *told: (sizes.append(len(told[2])), deliver(*told))[1]  # type: ignore[method-assign, func-returns-value]
        count = len(follower.messages)
        await store.put([record("10.0.0.1:5", b"w")])
        await follower.shows(expected | {key("10.0.0.1:5"): b"w"})
        assert len(follower.messages) == count + 1
        assert sum(sizes) < 200
        await store.close()
        await follower.shows({})
        assert follower.snapshots == 1


@bounded
async def test_a_slow_reader_gets_the_end_state(make: Make) -> None:
    store, watcher = make(log_length=100), make()
    async with opened(store, watcher):
        messages = watcher.watch(HERE)
        async with contextlib.aclosing(messages):  # type: ignore[type-var]
            await anext(messages)
            for number in range(30):
                await store.put([record(str(at), b"%d" % number * 1000) for at in range(300)])
            (inbox,) = {one for listeners in watcher._session.feed._listeners.values() for one in listeners}  # type: ignore[union-attr]
            assert inbox._size <= 16_000_000
            found = dict[RecordKey, bytes]()
            while found != await values(store):
                message = await anext(messages)
                if isinstance(message, StoreSnapshot):
                    found = {one.key: one.record.value for one in message.records}
                else:
                    found |= {one.key: one.record.value for one in message.changed}


@bounded
async def test_large_records_do_not_pile_up_in_the_log(make: Make, raw: Raw) -> None:
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record("small", owned=False)])
        for number in range(60):
            await store.put([record("large", b"%d" % number * 50_000, owned=False)])
        assert 4 <= raw.client.xlen(raw.log) <= 22, "two megabytes of them"
        await follower.shows(await values(store))
    for number in range(3):
        async with opened(store):
            await store.put([record("small", b"%d" % number, owned=False)])
    assert raw.client.xlen(raw.log) <= 30, "small ones trim nothing"


@bounded
async def test_nothing_is_left_open(make: Make, raw: Raw) -> None:
    def connections() -> int:
        return len(raw.client.client_list())

    before = connections()
    for _ in range(5):
        store = make()
        async with opened(store):
            async with following(store), following(store, Bucket(("x",), deep=True)):
                await store.put([record()])
                await asyncio.gather(*(store.read(HERE) for _ in range(10)))
                assert connections() <= before + 5
            await eventually_async(lambda: not raw.client.pubsub_channels(raw.changes), 2.0, "no subscription")
    await eventually_async(lambda: connections() == before, 2.0, "connections are closed")


@bounded
async def test_a_full_server_keeps_what_it_has(own_redis: OwnService) -> None:
    service = own_redis()
    store = store_at(service.host, service.port, "", lease=1)
    with contextlib.closing(redis.Redis(host=service.host, port=service.port)) as client:
        try:
            async with opened(store), following(store) as follower:
                await store.put([record()])
                client.config_set("maxmemory", 1)
                answers = await store.put([record("b")])
                refused = answers[key("b")]
                assert isinstance(refused, RegistryError)
                assert not isinstance(refused, Unavailable)
                until = asyncio.get_running_loop().time() + 2.0
                while asyncio.get_running_loop().time() < until:
                    assert not await store.renew()
                    await asyncio.sleep(0.3)
                assert await values(store) == {key(): b"1"}
                await store.delete([key()])
                await follower.shows({})
        finally:
            client.config_set("maxmemory", 0)


@bounded
async def test_a_black_hole_is_noticed_and_left_quickly(redis_service: Service, namespace: str) -> None:
    with NetProxy(redis_service.address) as proxy:
        store = store_at(proxy.host, proxy.port, namespace, call_timeout=1.0, lease=2)
        async with opened(store), following(store) as follower:
            await store.put([record()])
            proxy.black_hole()
            loop = asyncio.get_running_loop()
            began = loop.time()
            with pytest.raises(Unavailable):
                await store.renew()
            assert loop.time() - began < 1.5
            proxy.pass_through()
            await eventually_async(functools.partial(alive, store), 3.0)
            await follower.shows({key(): b"1"})
            proxy.black_hole()
            began = loop.time()
            await store.close()
            assert loop.time() - began < 1.8


@bounded
async def test_a_half_open_subscription_is_noticed(redis_service: Service, namespace: str) -> None:
    with NetProxy(redis_service.address) as proxy:
        store, writer = (store_at(proxy.host, proxy.port, namespace, lease=3) for _ in range(2))
        async with opened(store, writer), following(store) as follower:
            feed = store._session.feed  # type: ignore[union-attr]
            assert feed is not None
            # The server's end is gone without a word: what is sent goes nowhere, nothing comes.
            feed._connection.send_command = nothing  # type: ignore[method-assign]
            await store.renew()
            began = asyncio.get_running_loop().time()

            async def raises() -> bool:
                try:
                    await store.renew()
                except Unavailable:
                    return True
                return False

            await eventually_async(raises, 3.0, "renew raises", interval=0.2)
            assert asyncio.get_running_loop().time() - began < 2.0
            await writer.put([record()])
            await follower.shows({key(): b"1"})
            assert follower.cuts == 1


async def nothing(*_: object, **__: object) -> None:
    """Send nothing."""


async def is_denied(store: RedisStore) -> bool:
    try:
        await store.read(HERE)
    except Unavailable:
        return False
    except Denied:
        return True
    return False


async def alive(store: RedisStore) -> bool:
    try:
        await store.renew()
    except Unavailable:
        return False
    return True


SECRET = "s3cret-canary"


@pytest.fixture
def users(redis_service: Service) -> Iterator[redis.Redis]:
    client = redis.Redis(host=redis_service.host, port=redis_service.port)
    yield client
    client.execute_command("ACL", "DELUSER", "app", "reader")
    client.close()


def documented_rules() -> list[str]:
    text = BACKEND.considerations
    return [*text[text.index("~sofa:*") : text.index("+del.")].split(), "+del"]


@bounded
async def test_the_documented_rights_are_enough(
    make: Make, users: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    users.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}", *documented_rules())
    store = make(f"app:{SECRET}@", lease=1)
    killed = make(f"app:{SECRET}@", lease=1)
    async with opened(store), contextlib.aclosing(store.watch(Bucket((), deep=True))) as messages:  # type: ignore[type-var]
        with pytest.raises(Denied):
            await anext(messages)
    users.execute_command("ACL", "SETUSER", "app", "allchannels")
    async with opened(store, killed), following(store, Bucket((), deep=True)), following(store) as follower:
        await killed.put([record("killed")])
        await kill(killed)
        await store.put([record(), record("b", owned=False)])
        revision = await store.compare_and_put(record("c"), None)
        await store.compare_and_delete(key("c"), revision)
        await store.delete([key("b")])
        await missing(store, set(), 1.0)
        await follower.shows({key(): b"1", key("killed"): b"1"})
        users.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

        async def swept() -> bool:
            await store.renew()
            return follower.values == {key(): b"1"}

        await eventually_async(swept, 3.0, interval=0.2)
        assert list(await store.buckets(())) == ["services"]
    assert SECRET not in caplog.text


@bounded
async def test_rights_to_read_are_enough_to_read(make: Make, users: redis.Redis) -> None:
    writing = {
        "+hset",
        "+hdel",
        "+hincrby",
        "+zadd",
        "+zrem",
        "+zremrangebylex",
        "+xadd",
        "+expire",
        "+persist",
        "+del",
    }
    rules = [rule for rule in documented_rules() if rule not in writing | {"+publish"}]
    users.execute_command("ACL", "SETUSER", "reader", "reset", "on", f">{SECRET}", *rules)
    writer, reader = make(lease=1), make(f"reader:{SECRET}@", lease=1)
    async with opened(writer, reader), following(reader) as follower:
        await writer.put([record()])
        await follower.shows({key(): b"1"})
        assert not await reader.renew()
        answers = await reader.put([record("b")])
        assert isinstance(answers[key("b")], Denied)
        with pytest.raises(Denied):
            await reader.compare_and_put(record("b"), None)
        await kill(writer)
        await eventually_async(functools.partial(empty, reader), 2.0, "a dead owner's records are not shown")
        assert not await reader.renew()


async def empty(store: RedisStore) -> bool:
    return not await values(store)


@pytest.mark.parametrize("user", ("app:wrong@", "nobody:x@", ":wrong@"))
def test_wrong_credentials_are_said_at_once(make: Make, users: redis.Redis, user: str) -> None:
    @bounded
    async def check() -> None:
        users.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}")
        store = make(user)
        with pytest.raises(Denied) as caught:
            await store.open()
        assert "wrong" not in str(caught.value)
        await store.close()

    check()


@pytest.fixture
def server_without_login(tmp_path: pathlib.Path) -> Iterator[int]:
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server program on this machine")
    port = free_port()
    command = f"redis-server --port {port} --rename-command AUTH '' --save '' --dir {tmp_path}"
    server = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        server.kill()
        server.wait()


def test_a_server_that_knows_no_login_is_not_quoted(
    server_without_login: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers "unknown command 'AUTH', with args beginning with:" and the password."""
    caplog.set_level(logging.DEBUG)
    port = server_without_login

    @bounded
    async def refused() -> None:
        open_to_all = store_at("127.0.0.1", port, "")
        await eventually_async(functools.partial(opens, open_to_all), 10.0, "the server answers")
        await open_to_all.close()
        store = store_at("127.0.0.1", port, "", f"app:{SECRET}@")
        with pytest.raises(Refused, match=r"unknown command .AUTH.$") as caught:
            await store.open()
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
        await store.close()

    refused()
    registry = Registry(f"redis://app:{SECRET}@127.0.0.1:{port}?snapshot=off&call_timeout=1s")
    with pytest.raises(RegistryError) as caught, registry:
        registry.publish("echo", "10.0.0.1:12200")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caplog.records
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("url", "part"),
    (
        ("redis://h/x", "database number"),
        ("redis://h/0/1", "database number"),
        ("redis://h/-1", "database number"),
        ("redis://h,i", "several servers"),
        ("redis://u:p@h?password_file=x", "keep one"),
        ("redis://h?prefix=", "prefix"),
        ("redis://h?prefix=a{b", "prefix"),
        ("redis://h?ca=x", "rediss"),
        ("rediss://h?key=x", "cert"),
        ("redis://h?lease=0.5s", "lease"),
        ("redis://h?leese=1s", "lease"),
    ),
)
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str, part: str) -> None:
    with pytest.raises(InvalidURL, match=part) as caught:
        parse_target(url, BACKEND)
    assert ":p@" not in str(caught.value)


def test_the_backend_is_described_without_its_client_library() -> None:
    code = (
        "import sys; from sofa_registry_adapters.backends.redis import BACKEND; "
        "sys.exit(' '.join({'redis', 'asyncio'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@bounded
async def test_the_path_is_the_database(redis_service: Service, namespace: str, make: Make) -> None:
    url = f"redis://{redis_service.host}:{redis_service.port}/5?namespace={namespace}"
    other = RedisStore(parse_target(url, BACKEND), SystemClock())
    store = make()
    async with opened(store, other):
        await store.put([record()])
        assert await values(store) == {key(): b"1"}
        assert await values(other) == {}


@bounded
async def test_the_password_file_is_read_at_each_connect(
    make: Make, users: redis.Redis, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    users.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}", *documented_rules())
    store = make("app@", password_file=str(file))
    async with opened(store):
        users.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
        users.execute_command("CLIENT", "KILL", "USER", "app")
        await eventually_async(functools.partial(is_denied, store), 3.0)
        file.write_text("other")
        assert await values(store) == {}
    gone = make("app@", password_file=str(tmp_path / "none"))
    with pytest.raises(InvalidURL, match="password_file"):
        await gone.open()


@bounded
async def test_a_bucket_that_changes_while_it_is_read_is_read_at_one_moment(make: Make) -> None:
    store = make()
    async with opened(store):
        await store.put([record(str(number)) for number in range(100)])
        session = store._session
        assert session is not None
        run = session.commands.run

        async def disturbed(commands: Sequence[Command]) -> list[Any]:
            answers = await run(commands)
            if commands[0][0] == "HMGET":
                answers[0], answers[1] = [b"other", b"1", b"n"], answers[1][:10]
            return answers

        session.commands.run = disturbed  # type: ignore[method-assign]
        assert len(await values(store)) == 100


async def buckets_of(store: RedisStore) -> list[str]:
    return list(await store.buckets(("services",)))


async def leave_empty(store: RedisStore) -> None:
    """The bucket is in the index, with nothing in it."""
    await store.put([record(owned=False)])
    await store.delete([key()])


@bounded
async def test_a_bucket_that_is_filled_while_it_is_tidied_away_is_found(make: Make) -> None:
    tidying, writing = make(), make()
    async with opened(tidying, writing):
        await leave_empty(writing)
        session = tidying._session
        assert session is not None
        one = session.commands.one

        async def overtaken(command: Command) -> Any:
            if command[0] == "ZREM":
                await writing.put([record(owned=False)])
            return await one(command)

        session.commands.one = overtaken  # type: ignore[method-assign]
        assert await buckets_of(tidying) == [], "it was empty when it was looked at"
        assert await buckets_of(writing) == ["echo"]
        assert await values(writing, Bucket(("services",), deep=True)) == {key(): b"1"}


@pytest.mark.parametrize("compared", (False, True))
def test_a_bucket_that_is_tidied_away_while_it_is_filled_is_found(make: Make, *, compared: bool) -> None:
    @bounded
    async def check() -> None:
        tidying, writing = make(), make()
        async with opened(tidying, writing):
            await leave_empty(writing)
            session = writing._session
            assert session is not None
            assert isinstance(session.commands, ServerCommands)
            send = session.commands._send

            async def overtaken(commands: Sequence[Command]) -> list[Any]:
                if commands[0][0] != "ZADD":
                    return await send(commands)
                # Another connection's command may be carried out between any two of these.
                entered = await send(commands[:1])
                assert await buckets_of(tidying) == []
                return entered + await send(commands[1:])

            session.commands._send = overtaken  # type: ignore[method-assign]
            if compared:
                await writing.compare_and_put(record(owned=False), None)
            else:
                await writing.put([record(owned=False)])
            assert await buckets_of(tidying) == ["echo"]

    check()


@pytest.fixture
def tls(tmp_path: pathlib.Path) -> Iterator[tuple[int, pathlib.Path]]:
    if not (shutil.which("openssl") and shutil.which("redis-server")):
        pytest.skip("no openssl and redis-server programs on this machine")
    key_file, certificate, port = tmp_path / "key", tmp_path / "certificate", free_port()
    make_key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=x"
    subprocess.run(
        [*make_key.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key_file, "-out", certificate],
        check=True,
        capture_output=True,
    )
    files = f"--tls-cert-file {certificate} --tls-key-file {key_file} --tls-ca-cert-file {certificate}"
    command = f"redis-server --port 0 --tls-port {port} --tls-auth-clients no {files} --save '' --dir {tmp_path}"
    server = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL)
    try:
        yield port, certificate
    finally:
        server.kill()
        server.wait()


@bounded
async def test_tls_verifies_the_certificate_and_the_name(tls: tuple[int, pathlib.Path]) -> None:
    port, certificate = tls

    def at(url: str, **options: str) -> RedisStore:
        return RedisStore(parse_target(url, BACKEND, options), SystemClock())

    good = at(f"rediss://localhost:{port}", ca=str(certificate))
    await eventually_async(functools.partial(opens, good), 10.0, "a server with TLS")
    async with following(good) as follower:
        await good.put([record()])
        await follower.shows({key(): b"1"})
    await good.close()
    for bad, why in (
        (at(f"rediss://127.0.0.1:{port}", ca=str(certificate)), "not valid for"),
        (at(f"rediss://localhost:{port}"), "self-signed"),
    ):
        with pytest.raises(Unavailable, match=why):
            await bad.open()
    with pytest.raises(Unavailable):
        await at(f"redis://localhost:{port}").open()


async def opens(store: RedisStore) -> bool:
    with contextlib.suppress(Unavailable):
        await store.open()
        return True
    return False


@bounded
async def test_no_server(make: Make, namespace: str) -> None:
    with NetProxy(("127.0.0.1", 1)) as proxy:
        proxy.refuse()
        store = store_at(proxy.host, proxy.port, namespace)
        with pytest.raises(Unavailable, match=f"{proxy.port}"):
            await store.open()
        await store.close()


@bounded
async def test_older_data_behind_a_cut_is_noticed(make: Make, raw: Raw) -> None:
    """A server that comes back with yesterday's data: what was changed since is missing, what was deleted is there again."""
    store = make()
    async with opened(store):
        await store.put([record("changed"), record("deleted"), record("kept")])
        keys = [key for key in raw.client.keys(raw.records.rpartition(":")[0] + ":*") if isinstance(key, bytes)]
        older = {key: raw.client.dump(key) for key in keys}
        await store.put([record("changed", b"2")])
        await store.delete([key("deleted")])
        assert not await store.renew()
        for name, dumped in older.items():
            assert isinstance(dumped, bytes)
            raw.client.restore(name, 0, dumped, replace=True)
        raw.client.client_kill_filter(_type="normal", skipme=True)
        await missing(store, {key("changed"), key("deleted")}, 3.0)
        await store.put([record("changed", b"2")])
        await store.delete([key("deleted")])
        assert not await store.renew()
        assert await values(store) == {key("changed"): b"2", key("kept"): b"1"}
