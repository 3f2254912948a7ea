"""The etcd store beyond the contract: what operators, faults, accounts and clusters do to it, on both versions."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from typing import Any

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.etcd import BACKEND, connecting, reading, writing
from sofa_registry_adapters.backends.etcd.holding import Guard
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.reading import Seen
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.backends.etcd.writing import Task
from sofa_registry_adapters.errors import (
    Conflict,
    Denied,
    RegistryError,
    Unavailable,
    ValueTooLarge,
)
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.faults import eventually, eventually_async
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service

PATH = ("services", "echo")
HERE = Bucket(PATH)
SECRET = "s3cret-canary"


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(40):
                await test(*args, **kwargs)
            await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")

        asyncio.run(main())

    return run


def record(name: str = "a", value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PATH, name, value, owned=owned)


def key(name: str = "a") -> RecordKey:
    return RecordKey(PATH, name)


def text(raw: str) -> str:
    return base64.b64encode(raw.encode()).decode()


def ask(server: Service | tuple[str, int], path: str, token: str = "", **body: object) -> Any:
    """An operator's request, through the gateway that every etcd has."""
    host, port = server if isinstance(server, tuple) else server.address
    connection = HTTPConnection(host, port, timeout=10)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(body), {"Authorization": token} if token else {})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return json.loads(said)
    finally:
        connection.close()


def compact(server: Service | tuple[str, int]) -> None:
    ask(server, "kv/compaction", revision=ask(server, "kv/range", key=text("none"))["header"]["revision"])


class Follower:
    """A watch that is opened again when it is cut, as the engine does it."""

    def __init__(self, store: EtcdStore, bucket: Bucket = HERE) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.cuts: list[RegistryError] = []
        self._store = store
        self._bucket = bucket
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(self._bucket)) as messages_:  # type: ignore[type-var]
                    async for message in messages_:
                        self._apply(message)
            except (Unavailable, Denied) as error:
                self.cuts.append(error)
                await asyncio.sleep(0.02)

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
            assert self.values == expected
            raise

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()


@asynccontextmanager
async def opened(*stores: EtcdStore) -> AsyncIterator[None]:
    for store in stores:
        await store.open()
    try:
        yield
    finally:
        for store in stores:
            await store.close()


@asynccontextmanager
async def following(store: EtcdStore, bucket: Bucket = HERE) -> AsyncIterator[Follower]:
    follower = Follower(store, bucket)
    try:
        await eventually_async(lambda: follower.messages, 5.0, "a first message")
        yield follower
    finally:
        await follower.close()


async def values(store: EtcdStore, bucket: Bucket = HERE) -> dict[RecordKey, bytes]:
    found = await store.read(bucket)
    assert found is not None
    return {one.key: one.record.value for one in found.records}


async def missing(store: EtcdStore, *expected: RecordKey, seconds: float = 2.0) -> None:
    async def all_seen() -> bool:
        with contextlib.suppress(Unavailable):
            return set(await store.renew()) == set(expected)
        return False

    await eventually_async(all_seen, seconds, "renew reports what is missing", interval=0.05)


async def raised(call: Awaitable[object]) -> RegistryError:
    try:
        await call
    except RegistryError as error:
        return error
    raise AssertionError("nothing was raised")


def store_at(place: str, user: str = "", scheme: str = "etcd", **options: str | float | bool) -> EtcdStore:
    return EtcdStore(parse_target(f"{scheme}://{user}{place}/unit", BACKEND, options), SystemClock())


Make = Callable[..., EtcdStore]


@pytest.fixture(params=("etcd", pytest.param("etcd36", marks=pytest.mark.wide)))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, version: str) -> Service:
    """One that others use as well."""
    service = request.getfixturevalue(f"{version}_service")
    assert isinstance(service, Service)
    return service


@pytest.fixture
def own(request: pytest.FixtureRequest, version: str) -> OwnEtcd:
    """Servers to be hurt."""
    factory: OwnEtcd = request.getfixturevalue(f"own_{version}")
    return factory


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def make(server: Service, namespace: str) -> Make:
    return functools.partial(store_at, f"{server.host}:{server.port}", namespace=namespace)


# What is in the server.


@bounded
async def test_keys_are_what_an_operator_expects(make: Make, server: Service, namespace: str) -> None:
    plain = make()
    bare = EtcdStore(
        parse_target(f"{server.url}?leading_slash=no&namespace={namespace}", BACKEND),
        SystemClock(),
    )
    async with opened(plain, bare):
        await plain.put([record(), record("b", owned=False)])
        await bare.put([record(owned=False)])
        # All there are, from byte zero.
        found = ask(server, "kv/range", key="AA==", range_end="AA==", keys_only=True)["kvs"]
        keys = {base64.b64decode(one["key"]).decode(): int(one.get("lease", 0)) != 0 for one in found}
        assert {name: leased for name, leased in keys.items() if namespace in name} == {
            f"/unit/{namespace}/services/echo/a": True,
            f"/unit/{namespace}/services/echo/b": False,
            f"{namespace}/services/echo/a": False,
        }
        assert await bare.buckets(()) == ["services"]
        await bare.delete([key()])


@bounded
async def test_a_reader_has_no_lease_and_a_writer_one(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store, reader = (store_at(f"{server.host}:{server.port}", namespace=namespace) for _ in range(2))
    before = len(ask(server, "lease/leases").get("leases", ()))
    async with opened(store, reader), following(reader):
        assert not await reader.renew()
        assert len(ask(server, "lease/leases").get("leases", ())) == before
        for number in range(3):
            await asyncio.gather(*(store.put([record(f"{number}-{other}")]) for other in range(5)))
        assert len(ask(server, "lease/leases")["leases"]) == before + 1
    assert len(ask(server, "lease/leases").get("leases", ())) == before


@bounded
async def test_thousands_of_records_in_order(make: Make) -> None:
    store = make()
    one_bucket = [record(f"{number:04}") for number in range(1000)]
    several = [Record(("services", f"s{number % 3}"), f"{number:04}", b"") for number in range(500)]
    async with opened(store):
        assert set(map(type, (await store.put(one_bucket)).values())) == {str}
        answers = await store.put(several)
        revisions = [int(str(answers[one.key])) for one in several]
        assert revisions == sorted(revisions), "of different buckets what comes first is written first"
        assert len(await values(store)) == 1000
        assert await store.delete([one.key for one in reversed(one_bucket)]) == {}
        assert await values(store) == {}
        assert not await store.renew()


@bounded
async def test_records_that_are_large_together(make: Make) -> None:
    store, reader = make(), make()
    some = [record(f"{number}", bytes([number]) * 700_000) for number in range(6)]
    async with opened(store, reader), following(reader) as follower:
        await store.put(some)
        await follower.shows({one.key: one.value for one in some})


@bounded
async def test_answers_larger_than_a_message_may_be(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "MESSAGE_BYTES", 500_000)
    store = make()
    some = [record(f"{number}", b"x" * 10_000) for number in range(120)]
    async with opened(store):
        await store.put(some)
        assert len(await values(store)) == 120
        assert await values(store, Bucket(("services",), deep=True)) == {one.key: one.value for one in some}


@bounded
async def test_a_server_with_narrow_limits(own: OwnEtcd) -> None:
    server = own("--max-txn-ops=12", "--max-request-bytes=50000")
    store = store_at(f"{server.host}:{server.port}")
    some = [record(f"{number}") for number in range(100)]
    async with opened(store):
        answers = await store.put([*some, record("large", b"x" * 60_000)])
        assert isinstance(answers.pop(key("large")), ValueTooLarge)
        assert {type(one) for one in answers.values()} == {str}
        assert len(await values(store)) == 100
        assert await store.delete([one.key for one in some]) == {}
        assert await values(store) == {}


@bounded
async def test_too_much_is_refused_before_it_is_sent(make: Make) -> None:
    store = make()
    async with opened(store):
        began = time.monotonic()
        answers = await store.put([record("a", b"x" * 1_600_000), Record(PATH, "n" * 20_000, b"")])
        assert time.monotonic() - began < 0.05
        assert {type(one) for one in answers.values()} == {ValueTooLarge}
        assert "1600000 bytes" in str(answers[key()])
        assert isinstance(await raised(store.compare_and_put(record("a", b"x" * 1_600_000), None)), ValueTooLarge)


@bounded
async def test_revisions_of_other_products(make: Make) -> None:
    store = make()
    async with opened(store):
        await store.put([record(owned=False)])
        for strange in ("", "0", "-1", "12:3", "9" * 40, "٣", "d41d8cd98f00b204e9800998ecf8427e"):
            error = await raised(store.compare_and_put(record(value=b"2", owned=False), strange))
            assert isinstance(error, Conflict), strange
            assert isinstance(await raised(store.compare_and_delete(key(), strange)), Conflict)
            absent = await raised(store.compare_and_put(record("absent"), strange))
            assert isinstance(absent, Conflict), "an absent record is at no revision"
        assert await values(store) == {key(): b"1"}


@bounded
async def test_compare_and_set_by_many_is_exact(make: Make) -> None:
    stores = [make() for _ in range(4)]

    async def count(store: EtcdStore) -> None:
        done = 0
        while done < 50:
            found = await store.read(HERE)
            assert found is not None
            now = found.records[0] if found.records else None
            value = b"%d" % (int(now.record.value) + 1 if now else 1)
            with contextlib.suppress(Conflict):
                await store.compare_and_put(record(value=value, owned=False), now.revision if now else None)
                done += 1

    async with opened(*stores):
        await asyncio.gather(*map(count, stores))
        assert await values(stores[0]) == {key(): b"200"}


@bounded
async def test_foreign_bytes_in_keys(make: Make, server: Service, namespace: str) -> None:
    store = make()
    raw = base64.b64encode(f"/unit/{namespace}/services/echo/".encode() + b"\xff\xfe").decode()
    async with opened(store), following(store, Bucket((), deep=True)) as follower:
        ask(server, "kv/put", key=raw, value=text("1"))
        await eventually_async(lambda: len(follower.values) == 1, 5.0)
        assert await values(store) == follower.values
        assert await store.delete(list(follower.values)) == {}
        await follower.shows({})


@bounded
async def test_listing_jumps_over_large_buckets(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sofa_registry_adapters.backends.etcd.reading.PAGE", 5)
    store = make()
    names = ["foo", "foo.", "foobar", "fo", "z", "a", "%2F"]
    some = [Record(("services", name), f"{number:02}", b"") for name in names for number in range(12)]
    async with opened(store):
        await store.put([*some, Record(("services",), "record", b""), Record(("services", "deep", "er"), "1", b"")])
        assert sorted(await store.buckets(("services",))) == sorted([*names, "deep"])
        assert await store.buckets(()) == ["services"]
        assert len(await values(store, Bucket(("services",), deep=True))) == 12 * 7 + 2


@bounded
async def test_a_known_revision_of_a_watched_bucket_costs_one_look(make: Make) -> None:
    store, writer = make(), make()
    async with opened(store, writer), following(store) as follower:
        for number in range(3):
            await writer.put([record(f"{number}")])
            await eventually_async(lambda: len(follower.values) > number, 5.0)  # noqa: B023
            last = follower.messages[-1].revision
            assert await store.read(HERE, last) is None
            await writer.put([Record(("services", "elsewhere"), "a", b"")])
            assert await store.read(HERE, last) is None
        await writer.delete([key("0")])
        assert await store.read(HERE, last) is not None, "one that is gone is noticed"
        await follower.shows({key("1"): b"1", key("2"): b"1"})
        last = follower.messages[-1].revision
        assert await store.read(HERE, last) is None
        found = await store.read(HERE)
        assert found is not None
        assert await store.read(HERE, found.revision) is None, "as of a read"
        await writer.put([record("1", b"2")])
        assert await store.read(HERE, found.revision) is not None


# What is lost is noticed.


@bounded
async def test_what_is_deleted_or_overwritten_by_an_operator(make: Make, server: Service, namespace: str) -> None:
    store = make()
    raw = f"/unit/{namespace}/services/echo/"
    async with opened(store):
        await store.put([record(name) for name in "abc"])
        assert not await store.renew()
        ask(server, "kv/deleterange", key=text(f"{raw}a"))
        ask(server, "kv/put", key=text(f"{raw}b"), value=text("2"))
        await missing(store, key("a"), key("b"))
        await missing(store, key("a"), key("b"))
        answers = await store.put([record("a"), record("b")])
        assert isinstance(answers[key("a")], str)
        assert isinstance(answers[key("b")], Conflict), "it is permanent now"
        await missing(store)
        ask(server, "kv/put", key=text(f"{raw}c"), value=text("2"), ignore_lease=True)
        for _ in range(5):
            await asyncio.sleep(0.02)
            assert not await store.renew(), "another value of the same lease is no loss"


@bounded
async def test_the_loss_of_one_of_many(make: Make, server: Service, namespace: str) -> None:
    store = make()
    raw = f"/unit/{namespace}/services/echo/"
    async with opened(store):
        await store.put([record(f"{number}") for number in range(300)])
        assert not await store.renew()
        for name in ("0", "150", "299"):
            ask(server, "kv/deleterange", key=text(raw + name))
        await missing(store, key("0"), key("150"), key("299"))
        await store.put([record("150")])
        await store.delete([key("0"), key("299")])
        await missing(store)
        ask(server, "kv/deleterange", key=text(raw), range_end=text(f"{raw[:-1]}0"))
        await missing(store, *(key(f"{number}") for number in range(1, 299)))


@bounded
async def test_all_leases_revoked(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store = store_at(f"{server.host}:{server.port}", namespace=namespace)
    async with opened(store), following(store) as follower:
        for number in range(3):
            await store.put([record("a"), record("b")])
            await follower.shows({key("a"): b"1", key("b"): b"1"})
            for lease in ask(server, "lease/leases")["leases"]:
                ask(server, "lease/revoke", ID=lease["ID"])
            await follower.shows({})
            if number == 2:
                # Who writes before he hears of it gets no answer, and then a lease.
                assert isinstance(await raised(store.put([record("c")])), Unavailable)
                assert set(await store.renew()) == {key("a"), key("b")}
                await store.put([record("c")])
                await follower.shows({key("c"): b"1"})
            else:
                await missing(store, key("a"), key("b"), seconds=1.0)


@bounded
async def test_a_server_at_the_end_of_a_long_line_is_connected(own: OwnEtcd, namespace: str) -> None:
    """A round trip of 0.3 s: connecting takes several."""
    with own().proxy() as proxy:
        proxy.latency(0.15)
        store = store_at(f"{proxy.host}:{proxy.port}", namespace=namespace)
        async with opened(store):
            await store.put([record("a")])
            assert (await values(store)).keys() == {key("a")}


@bounded
async def test_what_is_lost_while_nobody_listens(own: OwnEtcd, namespace: str) -> None:
    server = own()
    raw = f"/unit/{namespace}/services/echo/"
    for compacted in (False, True):
        with server.proxy() as proxy:
            store = store_at(f"{proxy.host}:{proxy.port}", namespace=namespace)
            async with opened(store):
                await store.put([record(name) for name in "abc"])
                await store.put([Record(("many",), f"{number}", b"") for number in range(50)])
                proxy.black_hole()
                assert isinstance(await raised(store.renew()), Unavailable)
                for name in ("echo/a", "echo/b"):
                    ask(server, "kv/deleterange", key=text(f"/unit/{namespace}/services/{name}"))
                ask(server, "kv/put", key=text(f"{raw}b"), value=text("other"))
                ask(server, "kv/deleterange", key=text(f"/unit/{namespace}/many/7"))
                if compacted:
                    compact(server)
                proxy.pass_through()
                expected = {key("a"), key("b"), RecordKey(("many",), "7")}
                await missing(store, *expected, seconds=4.0)
                await store.put([record("a"), Record(("many",), "7", b"")])
                await missing(store, key("b"))
                ask(server, "kv/deleterange", key=text(f"{raw}c"))
                await missing(store, key("b"), key("c"))
            ask(server, "kv/deleterange", key=text(raw), range_end=text(f"{raw[:-1]}0"))


SESSION = "sofa_registry_adapters.backends.etcd.session"
HOLDING = "sofa_registry_adapters.backends.etcd.holding"


class Operator:
    """Deletes a record of a bucket in which there are so many that they share a watch."""

    def __init__(self, server: Service, namespace: str, store: EtcdStore) -> None:
        self._server = server
        self._head = f"/unit/{namespace}/services/echo/"
        self._store = store

    def guard(self) -> Guard:
        assert self._store._session is not None
        return max(self._store._session.holdings._guards.values(), key=lambda one: len(one.keys))

    async def delete(self, name: str) -> int:
        answer = await asyncio.to_thread(ask, self._server, "kv/deleterange", key=text(self._head + name))
        assert answer["deleted"] == "1"
        return int(answer["header"]["revision"])


@pytest.mark.parametrize("compared", (False, True))
@bounded
async def test_what_is_deleted_before_its_write_has_ended(
    make: Make, server: Service, namespace: str, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    store = make()
    operator = Operator(server, namespace, store)

    async def run(link: Link, tasks: Sequence[Task]) -> None:
        await writing.run(link, tasks)
        deleted = await operator.delete("new")
        await eventually_async(lambda: operator.guard().revision >= deleted, 5.0, "the deletion is heard of")

    async with opened(store):
        await store.put([record(f"{number}") for number in range(12)])
        assert not await store.renew()
        with monkeypatch.context() as patched:
            patched.setattr(f"{SESSION}.run", run)
            if compared:
                await store.compare_and_put(record("new"), None)
            else:
                await store.put([record("0"), record("new")])
        async with asyncio.timeout(1.0):
            await store.lost()
        await missing(store, key("new"))
        await store.put([record("new")])
        await missing(store)


@bounded
async def test_what_is_deleted_before_its_guard_began(
    make: Make, server: Service, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    operator, deleted, settled = Operator(server, namespace, store), asyncio.Event(), asyncio.Event()

    async def run(link: Link, tasks: Sequence[Task]) -> None:
        await writing.run(link, tasks)
        if tasks[0].key == key("late"):
            await operator.delete("late")
            deleted.set()
            await settled.wait()

    async with opened(store):
        monkeypatch.setattr(f"{SESSION}.run", run)
        late = asyncio.create_task(store.put([record("late")]))
        await deleted.wait()
        await store.put([record(f"{number}") for number in range(12)])
        settled.set()
        await late
        async with asyncio.timeout(1.0):
            await store.lost()
        await missing(store, key("late"))


@pytest.mark.parametrize("name", ("11", "new"))
@bounded
async def test_what_is_deleted_while_others_are_looked_at(
    server: Service, namespace: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One record is being written while the guard looks; the other one is new to it."""
    with server.proxy() as proxy:
        store = store_at(f"{proxy.host}:{proxy.port}", namespace=namespace)
        operator, deleted, looked = Operator(server, namespace, store), asyncio.Event(), asyncio.Event()

        async def run(link: Link, tasks: Sequence[Task]) -> None:
            await writing.run(link, tasks)
            await operator.delete(name)
            deleted.set()
            if name == "11":
                await looked.wait()

        async def look(link: Link, raws: Sequence[bytes]) -> list[Seen]:
            if looked.is_set():
                return await reading.look(link, raws)
            with monkeypatch.context() as patched:
                patched.setattr(f"{SESSION}.run", run)
                put = asyncio.create_task(store.put([record(name)]))
                await deleted.wait()
            if name == "new":
                await put
            seen = await reading.look(link, raws)
            writes.append(put)
            looked.set()
            return seen

        async with opened(store):
            await store.put([record(f"{number}") for number in range(12)])
            assert not await store.renew()
            writes: list[asyncio.Task[Any]] = []
            monkeypatch.setattr(f"{HOLDING}.look", look)
            proxy.cut()
            await eventually_async(looked_at(store, looked), 5.0)
            await writes[0]
            await missing(store, key(name))


def looked_at(store: EtcdStore, looked: asyncio.Event) -> Callable[[], Awaitable[bool]]:
    """Renew until there was a look."""

    async def renewed() -> bool:
        with contextlib.suppress(Unavailable):
            await store.renew()
        return looked.is_set()

    return renewed


@bounded
async def test_an_own_deletion_is_no_loss(make: Make) -> None:
    store = make()

    async def churn(name: str) -> None:
        for _ in range(30):
            await store.put([record(name)])
            await store.delete([key(name)])

    async def renew() -> None:
        for _ in range(60):
            assert not await store.renew()
            await asyncio.sleep(0.002)

    async with opened(store):
        await asyncio.gather(renew(), *(churn(f"{number}") for number in range(12)))


# Watches.


@bounded
async def test_a_compaction_between_reading_and_watching(make: Make, own: OwnEtcd, namespace: str) -> None:
    server = own()
    store, writer = (store_at(f"{server.host}:{server.port}", namespace=namespace) for _ in range(2))
    async with opened(store, writer):
        session = store._session
        assert session is not None
        await writer.put([record("a")])
        reading, fresh = session.read, [True]

        async def read_and_lose(bucket: Bucket) -> Any:
            found = await reading(bucket)
            if fresh.pop() if fresh else False:
                await writer.put([record("b")])
                await writer.delete([key("a")])
                await asyncio.to_thread(compact, server)
            return found

        session.read = read_and_lose  # type: ignore[method-assign]
        async with following(store) as follower:
            await follower.shows({key("b"): b"1"})
            assert follower.snapshots == 2, "it reads again"
            assert not follower.cuts, "and other watches are left alone"
            await writer.put([record("c")])
            await follower.shows({key("b"): b"1", key("c"): b"1"})


@bounded
async def test_changes_in_one_transaction_are_one_message(make: Make) -> None:
    store, writer = make(), make()
    async with opened(store, writer), following(store) as follower:
        await writer.put([record(f"{number}") for number in range(100)])
        await follower.shows({key(f"{number}"): b"1" for number in range(100)})
        assert len(follower.messages) == 2


@bounded
async def test_ten_thousand_records_vanish_at_once(make: Make) -> None:
    store, writer = make(lease=30), make(lease=30)
    late = [0.0]

    async def look() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            late[0] = max(late[0], time.monotonic() - before)

    async with opened(store, writer), following(store) as follower:
        await writer.put([record(f"{number}", b"x" * 200) for number in range(10_000)])
        await eventually_async(lambda: len(follower.values) == 10_000, 20.0)
        looking = asyncio.create_task(look())
        await writer.close()
        await follower.shows({})
        looking.cancel()
        await asyncio.wait((looking,))
        assert late[0] < 0.5, f"the loop stood still for {late[0]:.3f} s"


@bounded
async def test_watches_share_one_stream_and_end_alone(make: Make) -> None:
    store, writer = make(), make()
    async with opened(store, writer):
        session = store._session
        assert session is not None
        followers = [Follower(store, Bucket(("many", f"{number}"))) for number in range(200)]
        await eventually_async(lambda: all(one.messages for one in followers), 5.0)
        assert len(session.link._conversations) == 1
        for one in followers[1:]:
            await one.close()
        assert len(session.stream._watches) == 1
        await writer.put([Record(("many", "0"), "a", b"1")])
        await followers[0].shows({RecordKey(("many", "0"), "a"): b"1"})
        assert not followers[0].cuts
        await followers[0].close()


# Watches that go on.


class Resumer:
    """Watches, and goes on from where it was, as the engine does it; counts what it is told."""

    def __init__(self, store: EtcdStore) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.begun: list[str] = []
        self._store = store
        self._since: Revision | None = None

    async def until(self, expected: dict[RecordKey, bytes], *, begins: str) -> None:
        """Watch until the values are these, then stop watching."""
        watch = self._store.resume(HERE, self._since) if self._since else self._store.watch(HERE)
        async with asyncio.timeout(5), contextlib.aclosing(watch) as found:  # type: ignore[type-var]
            kind = ""
            async for message in found:
                kind = kind or type(message).__name__
                if isinstance(message, StoreSnapshot):
                    self.values = {one.key: one.record.value for one in message.records}
                else:
                    self.values |= {one.key: one.record.value for one in message.changed}
                    for gone in message.removed:
                        del self.values[gone]
                self._since = message.revision
                if self.values == expected:
                    break
        assert kind == begins


@bounded
async def test_a_watch_goes_on_from_where_it_was(make: Make) -> None:
    store, writer = make(), make()
    resumer = Resumer(store)
    async with opened(store, writer):
        await writer.put([record("a"), record("b"), record("c", owned=False)])
        values_ = {key("a"): b"1", key("b"): b"1", key("c"): b"1"}
        await resumer.until(values_, begins="StoreSnapshot")
        await resumer.until(values_, begins="StorePatch")
        await writer.put([record("a", b"2"), record("d")])
        await writer.delete([key("b")])
        await writer.put([Record(("services", "elsewhere"), "a", b"")])
        values_ = {key("a"): b"2", key("c"): b"1", key("d"): b"1"}
        await resumer.until(values_, begins="StorePatch")
        await resumer.until(values_, begins="StorePatch")
        last = store._session._ended[HERE]  # type: ignore[union-attr]
        assert last.size == 3
        await writer.delete([key("d")])
        await resumer.until({key("a"): b"2", key("c"): b"1"}, begins="StorePatch")
        await writer.close()
        await resumer.until({key("c"): b"1"}, begins="StorePatch")
        await writer.open()
        await writer.delete([key("c")])
        await resumer.until({}, begins="StorePatch")
        await writer.put([record("e")])
        await resumer.until({key("e"): b"1"}, begins="StorePatch")


@bounded
async def test_a_watch_begins_anew_where_history_is_not_certain(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store, writer = (store_at(f"{server.host}:{server.port}", namespace=namespace) for _ in range(2))
    resumer = Resumer(store)
    async with opened(store, writer):
        await writer.put([record("a", owned=False), record("b", owned=False)])
        await resumer.until({key("a"): b"1", key("b"): b"1"}, begins="StoreSnapshot")
        await writer.delete([key("a")])
        compact(server)
        await resumer.until({key("b"): b"1"}, begins="StoreSnapshot")
        # The same keys come to be at the same revisions in another life of the server.
        for other in (b"1", b"2"):
            await asyncio.to_thread(server.wipe)

            async def written() -> bool:
                with contextlib.suppress(Unavailable):
                    await writer.put([record("a", owned=False), record("b", owned=False)])
                    return True
                return False

            await eventually_async(written, 5.0)
            for number in range(30):
                await writer.put([record("b", other if number == 29 else b"%d" % number, owned=False)])

            async def reached() -> bool:
                with contextlib.suppress(Unavailable):
                    await store.renew()
                    return True
                return False

            await eventually_async(reached, 5.0)
            await resumer.until({key("a"): b"1", key("b"): other}, begins="StoreSnapshot")


def test_the_engine_reads_once_however_often_it_is_cut(own: OwnEtcd, namespace: str) -> None:
    server = own()
    with server.proxy() as proxy:
        url = f"etcd://{proxy.address}/unit?namespace={namespace}&snapshot=off"
        with Registry(f"{server.url}/unit?namespace={namespace}&snapshot=off") as publisher, Registry(url) as consumer:
            registration = publisher.publish("a", [f"10.0.0.{number}:1" for number in range(50)])
            consumer.subscribe("a", lambda _: None)
            read: list[object] = []
            session = consumer._opened().engine.backend._store._session
            reading = session.read

            async def counted(bucket: Bucket) -> object:
                read.append(bucket)
                return await reading(bucket)

            session.read = counted
            for weight in range(1, 21):
                proxy.cut()
                registration.update(weight=weight)
                eventually(lambda: {one.weight for one in consumer.lookup("a")} == {weight}, 5.0)  # noqa: B023
            assert proxy.cuts >= 20
            assert read == [], "what was known is not read again"
            assert not consumer.lookup("a").stale
