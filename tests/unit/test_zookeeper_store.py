"""The ZooKeeper store beyond the contract: what operators, faults and the server's limits do to it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from kazoo.client import KazooClient

from sofa_registry_adapters.backends.zookeeper import BACKEND, wire
from sofa_registry_adapters.backends.zookeeper.store import ZooKeeperStore
from sofa_registry_adapters.errors import Conflict, Denied, InvalidURL, RegistryError, Unavailable, ValueTooLarge
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
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
            async with asyncio.timeout(40):
                await test(*args, **kwargs)
            await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")
            await eventually_async(lambda: not connection_threads(), 2.0, "no thread is left")

        asyncio.run(main())

    return run


def connection_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sofa-registry-zookeeper"]


def record(name: str = "a", value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PATH, name, value, owned=owned)


def key(name: str = "a") -> RecordKey:
    return RecordKey(PATH, name)


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


class Follower:
    """A watch that is opened again when it is cut, as the engine does it."""

    def __init__(self, store: ZooKeeperStore, bucket: Bucket = HERE) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.cuts = 0
        self._store = store
        self._bucket = bucket
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(self._bucket)) as messages:
                    async for message in messages:
                        self._apply(message)
            except (Unavailable, Denied):
                self.cuts += 1
                await asyncio.sleep(0.02)

    def _apply(self, message: StoreSnapshot | StorePatch) -> None:
        if isinstance(message, StoreSnapshot):
            self.values = {one.key: one.record.value for one in message.records}
        else:
            self.values |= {one.key: one.record.value for one in message.changed}
            for gone in message.removed:
                self.values.pop(gone, None)
        self.messages.append(message)

    async def shows(self, *names: str, seconds: float = 5.0) -> None:
        expected = {key(name) for name in names}
        await eventually_async(lambda: self.messages and set(self.values) == expected, seconds, f"it shows {names}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))


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


async def works(store: ZooKeeperStore, seconds: float) -> float:
    """Wait until renew succeeds; how long it took."""
    begin = time.monotonic()

    async def look() -> bool:
        try:
            await store.renew()
        except Unavailable:
            return False
        return True

    await eventually_async(look, seconds, "renew succeeds")
    return time.monotonic() - begin


def expire(place: Place, store: ZooKeeperStore) -> None:
    """End the store's session from outside, as an expiry does."""
    client_id = store._sessions[0]._client.client_id
    thief = KazooClient(f"{place.service.host}:{place.service.port}", client_id=client_id)
    thief.start()
    thief.stop()
    thief.close()


@bounded
async def test_a_watch_outlives_its_bucket(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store, reader = await place.open(), await place.open()
        follower = Follower(reader)
        await follower.shows()
        for _ in range(3):
            await put(store, record("a"), record("b"))
            await follower.shows("a", "b")
            await store.delete([key("a"), key("b")])
            await follower.shows()
            with place.operator() as operator:
                operator.delete(f"/{place.namespace}/services", recursive=True)
        assert follower.cuts == 0
        await follower.close()


@bounded
async def test_watches_on_the_server_are_removed(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()

        def watched() -> int:
            return place.ask(b"wchp").count(place.namespace)

        for _ in range(3):
            followers = [Follower(store) for _ in range(3)] + [Follower(store, Bucket(("services",), deep=True))]
            for follower in followers:
                await follower.shows()
            await put(store, record("a"))
            assert watched() == 3, "one for the bucket, one for the deep one, one for the own record"
            for follower in followers:
                await follower.close()
            await store.delete([key("a")])
            await eventually_async(lambda: not watched(), 2.0, "no watch is left on the server")


@bounded
async def test_many_own_records_in_a_bucket_share_one_watch(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        await put(store, *(record(f"{number}") for number in range(100)))
        assert place.ask(b"wchp").count(place.namespace) == 1
        with place.operator() as operator:
            operator.delete(place.path("77"))
        await reports(store, "77", seconds=1.0)
        await store.delete([key(f"{number}") for number in range(100)])
        await eventually_async(lambda: place.namespace not in place.ask(b"wchp"), 2.0, "no watch is left")


@bounded
async def test_an_own_record_that_is_replaced_is_reported(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        await put(store, record("a"), record("b"))
        with place.operator() as operator:
            operator.transaction().delete(place.path())
            transaction = operator.transaction()
            transaction.delete(place.path())
            transaction.create(place.path(), b"theirs", ephemeral=True)
            transaction.commit()
            await reports(store, "a", seconds=1.0)
            answers = await store.put([record("a")])
            assert isinstance(answers[key()], Conflict)
            await store.delete([key()])
            assert operator.get(place.path())[0] == b"theirs"
        assert not await store.renew()


class Held:
    """What the connection's thread tells stays with it until `let_go`, and is then heard at once."""

    def __init__(self, store: ZooKeeperStore) -> None:
        self._session = store._sessions[0]
        self._inbox = self._session._inbox
        self._inbox._armed = True

    def answers(self) -> int:
        return sum(isinstance(args[-1], wire.Answer) for _, args in self._inbox._calls)

    async def tells_deletion(self, path: str) -> None:
        event = (self._session.on_changed, (wire.DELETED, path))
        await eventually_async(lambda: event in self._inbox._calls, 5.0, f"the deletion of {path} is told")

    def let_go(self) -> None:
        self._inbox._drain()


@pytest.mark.parametrize("renewed", (False, True))
def test_a_deletion_that_is_told_right_behind_the_answer_is_reported(
    zookeeper_service: Service, *, renewed: bool
) -> None:
    @bounded
    async def check() -> None:
        async with opened(zookeeper_service) as place:
            store = await place.open()
            await put(store, record("b"))
            held = Held(store)
            putting = asyncio.create_task(put(store, record("a")))
            with place.operator() as operator:
                await eventually_async(lambda: operator.exists(place.path("a")), 5.0, "it is written")
                operator.delete(place.path("a"))
            await held.tells_deletion(place.path("a"))
            held.let_go()
            if renewed:
                assert not await store.renew(), "its writer has not heard the answer yet"
            await putting
            await reports(store, "a", seconds=2.0)

    check()


@bounded
async def test_a_deletion_that_is_told_right_behind_a_look_is_reported(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        await put(store, record("a"), record("b"))
        store._ledger.doubt_all()
        held = Held(store)
        renewing = asyncio.create_task(store.renew())
        await eventually_async(lambda: held.answers() == 1, 5.0, "the look is answered")
        with place.operator() as operator:
            operator.delete(place.path("a"))
        await held.tells_deletion(place.path("a"))
        held.let_go()
        assert not await renewing, "it was there"
        await reports(store, "a", seconds=2.0)
        assert list(store._ledger.doubted) == [], "the other one was looked at"


@bounded
async def test_a_record_that_is_written_while_it_is_found_missing_is_guarded(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        await put(store, record("a"))
        with place.operator() as operator:
            operator.delete(place.path("a"))
            await eventually_async(lambda: store._ledger.doubted, 2.0, "its deletion is told")
            putting = asyncio.create_task(put(store, record("a", b"2")))
            await store.renew()
            await putting
            assert not await store.renew()
            operator.delete(place.path("a"))
            await reports(store, "a", seconds=2.0)


@bounded
async def test_an_expired_session(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store, reader = await place.open(), await place.open()
        await put(store, record("a"), record("b"), record("c", owned=False))
        mine, others = Follower(store), Follower(reader)
        await others.shows("a", "b", "c")
        expire(place, store)
        await reports(store, "a", "b")
        await mine.shows("c")
        await others.shows("c")
        await put(store, record("a"), record("b"))
        assert not await store.renew()
        await mine.shows("a", "b", "c")
        await others.shows("a", "b", "c")
        assert mine.cuts
        assert not others.cuts
        with place.operator() as operator:
            operator.delete(place.path("b"))
        await reports(store, "b", seconds=1.0)
        await mine.close()
        await others.close()


@bounded
async def test_expired_twenty_times(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        for _ in range(20):
            await put(store, record("a"))
            await asyncio.to_thread(expire, place, store)
            await reports(store, "a")
        assert len(connection_threads()) == 1


@bounded
async def test_many_records(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store, reader = await place.open(), await place.open()
        records = [record(f"10.{number // 250}.0.{number % 250}:12200", b"x" * 250) for number in range(10_000)]
        begin = time.monotonic()
        await put(store, *records)
        assert time.monotonic() - begin < 5
        follower = Follower(reader)
        await eventually_async(lambda: len(follower.values) == 10_000, 5.0, "all are there")
        before = len(follower.messages)
        await put(store, record("10.7.0.7:12200", b"y"))
        await eventually_async(lambda: follower.values[key("10.7.0.7:12200")] == b"y", 5.0, "the change is seen")
        assert [message for message in follower.messages[before:] if isinstance(message, StoreSnapshot)] == []
        assert sum(len(message.changed) for message in follower.messages[before:]) == 1
        assert await store.delete([one.key for one in records]) == {}
        await eventually_async(lambda: not follower.values, 5.0, "all are gone")
        await follower.close()


@bounded
async def test_what_is_written_together_is_seen_together(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store, reader = await place.open(), await place.open()
        follower = Follower(reader)
        await follower.shows()
        for number in range(10):
            before = len(follower.messages)
            await put(store, *(record(f"{number}-{place}") for place in range(20)))
            await eventually_async(lambda: len(follower.values) % 20 == 0 and len(follower.messages) > before)  # noqa: B023
            assert len(follower.messages) == before + 1
        await follower.close()


@bounded
async def test_a_read_waits_for_a_connection_that_is_coming_back(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        with NetProxy(zookeeper_service.address) as proxy:
            store = await place.open(proxy.address)
            await put(store, record("a"))
            for _ in range(3):
                proxy.cut()
                await eventually_async(lambda: not store._sessions[0].connected, 2.0, "the cut is noticed")
                assert [one.key for one in (await store.read(HERE)).records] == [key()]
            proxy.refuse()
            proxy.cut()
            await eventually_async(lambda: not store._sessions[0].connected, 2.0, "the cut is noticed")
            with pytest.raises(Unavailable, match="cannot be reached"):
                await store.read(HERE)
            await store.close()


@bounded
async def test_one_change_costs_few_bytes(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        await put(store, *(record(f"{number}", b"x" * 250) for number in range(2_000)))
        with NetProxy(zookeeper_service.address) as proxy:
            reader = await place.open(proxy.address)
            follower = Follower(reader)
            await eventually_async(lambda: len(follower.values) == 2_000, 5.0, "all are there")
            before = proxy.bytes_down + proxy.bytes_up
            await put(store, record("7", b"y" * 250))
            await eventually_async(lambda: follower.values[key("7")] == b"y" * 250, 5.0, "the change is seen")
            assert proxy.bytes_down + proxy.bytes_up - before < 1_500
            await follower.close()
            await reader.close()


@bounded
async def test_one_session_holds_so_many_bytes(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open(max_session_bytes=2_000)
        records = [record(f"{number}") for number in range(60)]
        await put(store, *records)
        owners = set()
        with place.operator() as operator:
            for one in records:
                stat = operator.exists(place.path(one.name))
                assert stat is not None
                owners.add(stat.owner_session_id)
            assert len(owners) == len(store._sessions) > 1
            assert {stored.owner for stored in (await store.read(HERE)).records} == {"mine"}
            operator.delete(place.path("59"))
        await reports(store, "59")
        await put(store, *(record(one.name, b"2") for one in records))
        assert not await store.renew()
        assert len(store._sessions) == len(owners)
        await store.delete([one.key for one in records])
        assert store._ledger.used(store._sessions[0]) == 0
        await put(store, *records)
        assert len(store._sessions) == len(owners), "the room is used again"


@bounded
async def test_a_second_session_that_expires_costs_its_own_records_only(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open(max_session_bytes=1_000)
        names = [f"{number}" for number in range(20)]
        await put(store, *(record(name) for name in names))
        second = store._sessions[1]
        lost = [name for name in names if store._ledger.get(key(name)).session is second]  # type: ignore[union-attr]
        follower = Follower(store)
        await follower.shows(*names)
        thief = KazooClient(f"{place.service.host}:{place.service.port}", client_id=second._client.client_id)
        thief.start()
        thief.stop()
        thief.close()
        await reports(store, *lost)
        await put(store, *(record(name) for name in lost))
        await follower.shows(*names)
        assert not await store.renew()
        assert not follower.cuts
        await follower.close()


@bounded
async def test_too_large_is_refused_before_it_is_sent(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        follower = Follower(store)
        most = store.capabilities.max_value_bytes
        answers = await store.put([record("a", b"x" * (most + 1)), record("n" * 20_000), record("b", b"x" * most)])
        kinds = [type(answer) for answer in answers.values()]
        assert sorted(kind.__name__ for kind in kinds) == ["ValueTooLarge", "ValueTooLarge", "str"]
        assert isinstance(answers[key("a")], ValueTooLarge)
        await follower.shows("b")
        assert not follower.cuts
        await follower.close()


@bounded
async def test_credentials_keep_others_out(zookeeper_service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    async with opened(zookeeper_service) as place:
        store = await place.open(credentials="ann:s3cret-word@", namespace=f"{place.namespace}-creator")
        await put(store, record("a"), record("b", owned=False))
        same = await place.open(credentials="ann:s3cret-word@", namespace=f"{place.namespace}-creator")
        assert {one.key for one in (await same.read(HERE)).records} == {key("a"), key("b")}
        stranger = await place.open(namespace=f"{place.namespace}-creator")
        answers = await stranger.put([record("c")])
        assert isinstance(answers[key("c")], Denied)
        with pytest.raises(Denied) as raised:
            await stranger.read(HERE)
        assert "s3cret" not in str(raised.value)
        assert await place.open(credentials="ann:s3cret-word@", acl="open")
    assert "s3cret" not in caplog.text
    assert "ession_passwd" not in caplog.text
    assert [one for one in caplog.records if one.levelno > logging.DEBUG] == []


@bounded
async def test_a_known_revision(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store, reader = await place.open(), await place.open()
        await put(store, record("a"))
        snapshot = await reader.read(HERE)
        assert snapshot is not None
        assert await reader.read(HERE, snapshot.revision) is not None, "nobody watched it"
        follower = Follower(reader)
        await follower.shows("a")
        revision = follower.messages[-1].revision
        assert await reader.read(HERE, revision) is None
        await put(store, record("a", b"2"))
        await eventually_async(lambda: follower.values == {key(): b"2"}, 2.0, "it changed")
        assert await reader.read(HERE, revision) is not None
        assert await reader.read(HERE, follower.messages[-1].revision) is None
        await follower.close()


@bounded
async def test_credentials_that_are_refused_while_running(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        with NetProxy(zookeeper_service.address) as proxy:
            store = await place.open(proxy.address)
            follower = Follower(store)
            await put(store, record("a"))
            wrong = [[("no-such-scheme", "x")]]
            store._access.credentials = lambda: wrong.pop() if wrong else []  # type: ignore[method-assign]
            proxy.cut()

            async def denied() -> bool:
                with contextlib.suppress(Unavailable):
                    await store.renew()
                return False

            with pytest.raises(Denied, match="refused the credentials"):
                await eventually_async(denied, 3.0, "renew raises")
            # Said by the server's answer it is said once more when the connection has ended.
            with contextlib.suppress(Denied):
                await works(store, 3.0)
            await reports(store, "a")
            await put(store, record("a", b"2"))
            assert not await store.renew()
            await eventually_async(lambda: follower.values == {key(): b"2"}, 2.0, "the watch goes on")
            await follower.close()
            await store.close()


@bounded
async def test_nobody_answers(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        with NetProxy(zookeeper_service.address) as proxy:
            proxy.refuse()
            store = place.store(proxy.address)
            for _ in range(3):
                with pytest.raises(Unavailable, match="cannot be reached"):
                    await store.open()
            proxy.pass_through()
            await store.open()
            await put(store, record("a"))
            await store.close()


@bounded
async def test_close_in_a_black_hole_is_bounded(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        with NetProxy(zookeeper_service.address) as proxy:
            store = await place.open(proxy.address)
            await put(store, record("a"))
            proxy.black_hole()
            begin = time.monotonic()
            await store.close()
            assert time.monotonic() - begin < 1.5
            await store.close()
            await eventually_async(lambda: not connection_threads(), 0.5, "no thread is left")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await store.open()
            await eventually_async(lambda: not connection_threads(), 2.5, "no thread is left")
            proxy.pass_through()
            await store.open()
            # The session before lives on until its time-out, and its records are ours.
            await put(store, record("a", b"2"))
            assert not await store.renew()
            await store.close()


@bounded
async def test_a_half_open_connection_is_noticed(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        with NetProxy(zookeeper_service.address) as proxy:
            store = await place.open(proxy.address)
            follower = Follower(store)
            await put(store, record("a"))
            await follower.shows("a")
            for direction in ("both", "up", "down"):
                cuts = follower.cuts
                proxy.black_hole(direction)  # type: ignore[arg-type]
                await eventually_async(lambda: follower.cuts > cuts, store.lease, "the watch is cut")  # noqa: B023
                with pytest.raises(Unavailable):
                    await store.renew()
                proxy.pass_through()
                assert await works(store, 2.0) < 2.0
                if await store.renew():
                    await put(store, record("a"))
                await follower.shows("a")
            await follower.close()
            await store.close()


@bounded
async def test_resets(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        with NetProxy(zookeeper_service.address) as proxy:
            store = await place.open(proxy.address)
            follower = Follower(store)
            await put(store, record("a"))
            for number in range(5):
                await follower.shows("a")
                cuts = follower.cuts
                proxy.cut()
                await eventually_async(lambda: follower.cuts > cuts, 2.0, "the watch is cut")  # noqa: B023
                await works(store, 2.0)
                assert not await store.renew(), f"the session lives on, time {number}"
            with place.operator() as operator:
                operator.delete(place.path())
            await reports(store, "a", seconds=1.0)
            await follower.close()
            await store.close()


@bounded
async def test_a_record_that_goes_while_we_are_away_is_reported(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        with NetProxy(zookeeper_service.address) as proxy:
            store = await place.open(proxy.address)
            await put(store, record("a"), record("b"))
            proxy.refuse()
            proxy.cut()
            with place.operator() as operator:
                operator.delete(place.path())
            proxy.pass_through()
            await reports(store, "a", seconds=3.0)
            await store.close()


@bounded
async def test_killed_and_started_again(own_zookeeper: OwnService) -> None:
    service = own_zookeeper()
    async with opened(service) as place:
        store, reader = await place.open(session_timeout=10), await place.open()
        follower = Follower(reader)
        await put(store, record("a"), record("b", owned=False))
        await follower.shows("a", "b")
        await asyncio.to_thread(service.kill)
        with pytest.raises(RegistryError):
            await store.put([record("c")])
        await asyncio.to_thread(service.start)
        # Two seconds on a quiet machine; a busy one is no reason to fail.
        await works(store, 6.0)
        assert not await store.renew(), "the session is the same"
        await put(store, record("c"))
        await follower.shows("a", "b", "c", seconds=6.0)
        await follower.close()


@bounded
async def test_came_back_empty(own_zookeeper: OwnService) -> None:
    service = own_zookeeper()
    async with opened(service) as place:
        store, reader = await place.open(session_timeout=10), await place.open(session_timeout=10)
        follower = Follower(reader)
        for number in range(30):
            await put(store, record("a", b"%d" % number), record("b"))
        await follower.shows("a", "b")
        before = follower.messages[-1].revision
        await asyncio.to_thread(service.wipe)
        await reports(store, "a", "b", seconds=8.0)
        await put(store, record("a"))
        await eventually_async(lambda: set(follower.values) == {key("a")}, 8.0, "the reader sees the new history")
        after = follower.messages[-1].revision
        assert after.epoch != before.epoch
        assert after.counter < before.counter
        with place.operator() as operator:
            operator.delete(place.path())
        await reports(store, "a", "b", seconds=3.0)
        await follower.close()


@bounded
async def test_a_frozen_server(own_zookeeper: OwnService) -> None:
    service = own_zookeeper()
    async with opened(service) as place:
        store = await place.open()
        follower = Follower(store)
        await put(store, record("a"))
        await follower.shows("a")
        await asyncio.to_thread(service.pause)
        try:
            begin = time.monotonic()
            with pytest.raises(Unavailable):
                await store.put([record("b")])
            assert time.monotonic() - begin < store.lease

            async def renewing_fails() -> bool:
                with contextlib.suppress(Unavailable):
                    await store.renew()
                    return False
                return True

            # A moment later: the client library fails what waits before it says that the connection is gone.
            await eventually_async(renewing_fails, store.lease, "a renewal fails")
        finally:
            await asyncio.to_thread(service.resume)
        await works(store, 3.0)
        if await store.renew():
            await put(store, record("a"))
        await put(store, record("b"))
        await follower.shows("a", "b")
        await follower.close()


@bounded
async def test_parents_that_vanish_are_made_again(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        for number in range(5):
            await put(store, record(f"{number}"))
            await store.delete([key(f"{number}")])
            with place.operator() as operator:
                operator.delete(f"/{place.namespace}", recursive=True)


@bounded
async def test_the_loop_stays_free(zookeeper_service: Service) -> None:
    async with opened(zookeeper_service) as place:
        store = await place.open()
        lags: list[float] = []

        async def look() -> None:
            while True:
                begin = time.monotonic()
                await asyncio.sleep(0.005)
                lags.append(time.monotonic() - begin - 0.005)

        looking = asyncio.create_task(look())
        records = [record(f"{number}", b"x" * 250) for number in range(10_000)]
        await put(store, *records)
        await store.read(HERE)
        await store.delete([one.key for one in records])
        looking.cancel()
        await asyncio.wait((looking,))
        assert sorted(lags)[-3] < 0.1, sorted(lags)[-5:]


def test_the_backend_is_described_without_kazoo_or_asyncio() -> None:
    program = (
        "import sys; from sofa_registry_adapters.backends.zookeeper import BACKEND; "
        "assert not {'kazoo', 'asyncio'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.parametrize(
    ("url", "message"),
    (
        ("zookeeper://127.0.0.1/a//b", "cannot be a ZooKeeper path"),
        ("zookeeper://127.0.0.1/a/../b", "cannot be a ZooKeeper path"),
        ("zookeeper://127.0.0.1?acl=creator", "needs credentials"),
        ("zookeeper://127.0.0.1?acl=closed", "one of"),
    ),
)
def test_urls_that_cannot_be_used(url: str, message: str) -> None:
    with pytest.raises(InvalidURL, match=message):
        parse_target(url, BACKEND)
