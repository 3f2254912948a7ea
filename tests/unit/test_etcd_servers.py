"""The etcd store and its servers: outages, accounts, certificates, clusters, on both versions."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gc
import json
import logging
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.etcd import BACKEND, messages
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import Denied, InvalidURL, RegistryError, Unavailable, Unsupported
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StoreSnapshot
from sofa_registry_adapters.testing.faults import ChildProcess, eventually, eventually_async, free_port
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import PRODUCTS, Service
from sofa_registry_adapters.testing.services.local import LocalService

PATH = ("services", "echo")
HERE = Bucket(PATH)
SECRET = "s3cret-canary"
FILES = Path("/proc/self/fd")


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(50):
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


def ask(address: tuple[str, int], path: str, token: str = "", **body: object) -> Any:
    """An operator's request, through the gateway that every etcd has."""
    connection = HTTPConnection(*address, timeout=10)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(body), {"Authorization": token} if token else {})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return json.loads(said)
    finally:
        connection.close()


class Follower:
    """A watch that is opened again when it is cut, as the engine does it."""

    def __init__(self, store: EtcdStore, bucket: Bucket = HERE) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.begun = False
        self.cuts: list[RegistryError] = []
        self._store = store
        self._bucket = bucket
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(self._bucket)) as found:  # type: ignore[type-var]
                    async for message in found:
                        self.begun = True
                        if isinstance(message, StoreSnapshot):
                            self.values = {one.key: one.record.value for one in message.records}
                        else:
                            self.values |= {one.key: one.record.value for one in message.changed}
                            for gone in message.removed:
                                self.values.pop(gone, None)
            except RegistryError as error:
                self.cuts.append(error)
                await asyncio.sleep(0.05)

    async def shows(self, expected: dict[RecordKey, bytes], seconds: float = 5.0) -> None:
        try:
            await eventually_async(lambda: self.begun and self.values == expected, seconds)
        except AssertionError:
            assert self.values == expected, self.cuts[-1:]
            raise

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))


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
        await eventually_async(lambda: follower.begun, 5.0, "a first message")
        yield follower
    finally:
        await follower.close()


async def values(store: EtcdStore, bucket: Bucket = HERE) -> dict[RecordKey, bytes]:
    found = await store.read(bucket)
    assert found is not None
    return {one.key: one.record.value for one in found.records}


async def raised(call: Awaitable[object]) -> RegistryError:
    try:
        await call
    except RegistryError as error:
        return error
    raise AssertionError("nothing was raised")


async def works(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        await call()
    except Unavailable:
        return False
    return True


def store_at(place: str, user: str = "", scheme: str = "etcd", **options: str | float | bool) -> EtcdStore:
    return EtcdStore(parse_target(f"{scheme}://{user}{place}/unit", BACKEND, options), SystemClock())


@pytest.fixture(params=("etcd", pytest.param("etcd36", marks=pytest.mark.wide)))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own(request: pytest.FixtureRequest, version: str) -> OwnEtcd:
    factory: OwnEtcd = request.getfixturevalue(f"own_{version}")
    return factory


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


# Outages.


@pytest.mark.parametrize("down", (0.5, 4.0))
@bounded
async def test_a_killed_server_comes_back_under_a_writer(own: OwnEtcd, namespace: str, down: float) -> None:
    server = own()
    store, writer = (store_at(f"{server.host}:{server.port}", namespace=namespace, lease=30) for _ in range(2))
    confirmed: dict[RecordKey, bytes] = {}
    stop = asyncio.Event()
    stopping = asyncio.create_task(stop.wait())

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            one = record(f"{number % 20}", b"%d" % number)
            # Written until it is confirmed, as the engine does it.
            while not stop.is_set() and not await works(lambda: writer.put([one])):  # noqa: B023
                await asyncio.wait((stopping,), timeout=0.1)
            confirmed[one.key] = one.value

    async with opened(store, writer), following(store) as follower:
        writing = asyncio.create_task(write())
        await eventually_async(lambda: len(follower.values) == 20, 5.0)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)
        count = len(confirmed)
        await eventually_async(lambda: store._session.link.current is not None, 2.0)  # type: ignore[union-attr]
        assert count == 20
        await asyncio.sleep(0.5)
        stop.set()
        await writing
        await follower.shows(confirmed)
        assert await values(store) == confirmed
        assert not await writer.renew(), "the lease went on counting, and was not over"


def test_an_outage_costs_no_processor_time(own: OwnEtcd, namespace: str) -> None:
    server, seconds = own(), 6.0
    with Registry(f"{server.url}?namespace={namespace}&snapshot=off") as registry:
        registry.publish("a", "10.0.0.1:1")
        registry.subscribe("a", lambda _: None)
        server.kill()
        time.sleep(0.5)
        before = time.process_time()
        time.sleep(seconds)
        used = time.process_time() - before
        server.start()
        eventually(lambda: not registry.lookup("a").stale, 5.0)
    assert used < 0.2 * seconds / 30 + 0.03, f"{used:.3f} s of processor time in {seconds:g} s"


@bounded
async def test_what_a_restored_backup_does_not_have_is_lost(own: OwnEtcd, namespace: str, tmp_path: Path) -> None:
    server = own()
    if not isinstance(server, LocalService):
        pytest.skip("the data of a server in a container is out of reach")
    backup = tmp_path / "backup"
    store = store_at(f"{server.host}:{server.port}", namespace=namespace, lease=60)

    async def restart(data: Path, copy: Path) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)
        await asyncio.to_thread(shutil.copytree, data, copy)
        await asyncio.to_thread(server.start)
        await eventually_async(lambda: works(store.renew), 5.0)

    async def lost(*expected: RecordKey) -> bool:
        with contextlib.suppress(Unavailable):
            return set(await store.renew()) == set(expected)
        return False

    many = [Record(("many",), f"{number}", b"") for number in range(150)]
    async with opened(store):
        await store.put([record("before"), record("changed"), many[0]])
        await restart(server.directory, backup)
        assert not await store.renew(), "a restart is no loss"
        await store.put([record("after"), record("changed", b"2"), *many[1:]])
        await restart(backup, server.directory)
        gone = [key("after"), key("changed"), *(one.key for one in many[1:])]
        await eventually_async(lambda: lost(*gone), 3.0, "what is not there as it was written is lost", interval=0.05)
        await store.put([record("after"), record("changed", b"2"), *many[1:]])
        assert not await store.renew()
        for name in ("services/echo/before", "many/0", "many/149"):
            ask(server.address, "kv/deleterange", key=text(f"/unit/{namespace}/{name}"))
        gone = [key("before"), many[0].key, many[149].key]
        await eventually_async(lambda: lost(*gone), 3.0, "the watches go on in the store as it is", interval=0.05)


@bounded
async def test_a_cut_costs_a_look_for_all_records(own: OwnEtcd, namespace: str) -> None:
    for place, most in ((own(), 3), (own("--max-txn-ops=12"), 64)):
        with place.proxy() as proxy:
            store = store_at(proxy.address, namespace=namespace)
            async with opened(store):
                # Two in each bucket: each record has a watch of its own.
                await store.put([Record(("many", f"{number // 2}"), f"{number}", b"") for number in range(250)])
                assert not await store.renew()
                session = store._session
                assert session is not None
                asked, ask_ = [], session.link.ask

                async def counted(*request: Any, ask_: Any = ask_, asked: list[object] = asked) -> Any:
                    asked.append(request)
                    return await ask_(*request)

                session.link.ask = counted  # type: ignore[method-assign]
                proxy.cut()
                await eventually_async(session.holdings.alarm.is_set, 2.0)
                await eventually_async(lambda: works(store.renew), 2.0)  # noqa: B023
                assert not await store.renew()
                assert 1 <= len(asked) <= most
                assert all(guard.watch is not None for guard in session.holdings._guards.values())


@bounded
async def test_a_frozen_server_is_told_by_raising(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store = store_at(f"{server.host}:{server.port}", namespace=namespace, lease=3, call_timeout=2.0)
    loop = asyncio.get_running_loop()
    async with opened(store), following(store) as follower:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        await asyncio.to_thread(server.pause)
        try:
            await asyncio.sleep(0.05)
            began = loop.time()
            assert isinstance(await raised(store.renew()), Unavailable)
            assert loop.time() - began < 1.0, "before the engine's patience of a third of the lease is over"
            await eventually_async(lambda: follower.cuts, 1.0, "the watch is cut as well")
            began = loop.time()
            assert isinstance(await raised(store.put([record("b")])), Unavailable)
            assert loop.time() - began < 2.2
            await is_cancelled_at_once(store)
        finally:
            await asyncio.to_thread(server.resume)
        await eventually_async(lambda: works(store.renew), 3.0)
        await store.put([record()])
        await follower.shows({key(): b"1"})
        await asyncio.to_thread(server.pause)
        try:
            began = loop.time()
            await store.close()
            assert loop.time() - began < 0.8
        finally:
            await asyncio.to_thread(server.resume)


async def is_cancelled_at_once(store: EtcdStore) -> None:
    """A write that waits for the server ends when it is cancelled, and as cancelled."""
    while True:
        task = asyncio.create_task(store.put([record("b")]))
        await asyncio.wait((task,), timeout=0.05)
        if not task.done():
            break
        # It was answered at once, with the failure of a moment ago.
        assert isinstance(task.exception(), Unavailable)
    task.cancel()
    began = time.monotonic()
    done, _ = await asyncio.wait((task,), timeout=1.0)
    assert done, "a cancelled verb goes on"
    assert task.cancelled(), "a cancellation was swallowed"
    assert time.monotonic() - began < 0.1


@bounded
async def test_a_call_that_is_cancelled_leaves_the_connection_alone(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store = store_at(f"{server.host}:{server.port}", namespace=namespace)
    async with opened(store), following(store) as follower:
        for number in range(100):
            task = asyncio.create_task(store.put([record(f"{number}")]))
            await asyncio.sleep(number / 100_000)
            task.cancel()
            await asyncio.wait((task,))
        await store.put([record("last")])
        await eventually_async(lambda: key("last") in follower.values, 5.0)
        assert follower.values == await values(store)
        assert not follower.cuts


@bounded
async def test_a_network_that_swallows_everything(own: OwnEtcd, namespace: str) -> None:
    server = own()
    with server.proxy() as proxy:
        store = store_at(f"{proxy.host}:{proxy.port}", namespace=namespace, lease=3)
        async with opened(store), following(store) as follower:
            await store.put([record()])
            proxy.black_hole()
            assert isinstance(await raised(store.renew()), Unavailable)
            began = time.monotonic()
            assert isinstance(await raised(store.renew()), Unavailable)
            assert time.monotonic() - began < 2.5
            proxy.pass_through()
            await eventually_async(lambda: works(store.renew), 3.0)
            await follower.shows({key(): b"1"})
            proxy.black_hole()
            began = time.monotonic()
            await store.close()
            assert time.monotonic() - began < 0.8


@pytest.mark.skipif(not FILES.is_dir(), reason="the files of a process cannot be counted here")
@bounded
async def test_nothing_is_left_of_a_store_not_even_for_the_collector(own: OwnEtcd, namespace: str) -> None:
    server = own()

    def count() -> tuple[int, int]:
        return threading.active_count(), len(list(FILES.iterdir()))

    async def once() -> None:
        store = store_at(f"{server.host}:{server.port}", namespace=namespace)
        async with opened(store), following(store):
            await store.put([record()])
            await store.renew()
            assert isinstance(await raised(store.compare_and_put(record(), None)), RegistryError)

    await once()
    gc.collect()
    await asyncio.sleep(0.2)
    before = count()
    gc.disable()
    try:
        for _ in range(5):
            await once()
        await eventually_async(lambda: count() <= before, 2.0, f"{before} before")
    finally:
        gc.enable()


# What is not a server that will do.


@bounded
async def test_nobody_is_there(own: OwnEtcd) -> None:
    loop = asyncio.get_running_loop()
    for place, words in (
        (f"127.0.0.1:{free_port('127.0.0.1')}", "refused"),
        ("no-such-host.invalid:2379", "no-such-host.invalid"),
    ):
        store = store_at(place)
        began = loop.time()
        error = await raised(store.open())
        assert loop.time() - began < 2.5
        assert isinstance(error, Unavailable)
        assert words in str(error).lower()
        assert isinstance(await raised(store.renew()), RegistryError)


@bounded
async def test_another_product_is_there(redis_service: Service) -> None:
    began = time.monotonic()
    error = await raised(store_at(f"{redis_service.host}:{redis_service.port}").open())
    assert isinstance(error, Unavailable)
    assert time.monotonic() - began < 2.5


@bounded
async def test_a_server_that_is_too_old() -> None:
    """There is none of such an age to be had: one that says so, and knows nothing else."""
    status = messages.call("Maintenance", "Status")

    async def answer(request: bytes, context: Any) -> bytes:
        told: bytes = messages.rpc.StatusResponse(version="3.3.27", leader=1).SerializeToString()
        return told

    service, method = status.path.strip("/").split("/")
    server = grpc.aio.server()
    handlers = {method: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    error = await raised(store_at(f"127.0.0.1:{port}").open())
    await server.stop(None)
    assert isinstance(error, Unsupported)
    assert "3.3.27" in str(error)
    assert "3.4" in str(error)


# Accounts.


class Accounts:
    """A server that wants a login, and what an operator does to its accounts."""

    def __init__(self, server: Service) -> None:
        self.server = server
        self.place = f"{server.host}:{server.port}"
        self._password = "root's"
        users = ask(server.address, "auth/user/list") if not self._enabled() else {}
        if not self._enabled():
            assert not users.get("users")
            ask(server.address, "auth/user/add", name="root", password=self._password)
            ask(server.address, "auth/role/add", name="root")
            ask(server.address, "auth/user/grant", user="root", role="root")
            ask(server.address, "auth/enable")

    def _enabled(self) -> bool:
        try:
            ask(self.server.address, "auth/user/list")
        except AssertionError:
            return True
        return False

    def do(self, path: str, **body: object) -> Any:
        token = ask(self.server.address, "auth/authenticate", name="root", password=self._password)["token"]
        return ask(self.server.address, path, token, **body)

    def add(self, user: str, password: str, **permissions: str) -> None:
        """Permissions by what the keys begin with, under /unit/: READ, WRITE or READWRITE."""
        self.do("auth/user/add", name=user, password=password)
        self.do("auth/role/add", name=user)
        self.do("auth/user/grant", user=user, role=user)
        for head, kind in permissions.items():
            self.permit(user, f"/unit/{head}", kind)

    def permit(self, role: str, head: str, kind: str) -> None:
        perm = {"permType": kind, "key": text(f"{head}/"), "range_end": text(f"{head}0")}
        self.do("auth/role/grant", name=role, perm=perm)


@pytest.fixture
def accounts(own: OwnEtcd) -> Accounts:
    return Accounts(own("--bcrypt-cost=4", "--auth-token-ttl=1"))


@bounded
async def test_wrong_credentials_and_none(accounts: Accounts, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    user = uuid.uuid4().hex
    accounts.add(user, "right", **{namespace: "READWRITE"})
    for wrong in (f"{user}:{SECRET}@", f"nobody:{SECRET}@"):
        store = store_at(accounts.place, wrong, namespace=namespace)
        error = await raised(store.open())
        assert isinstance(error, Denied)
        assert "check the URL's user and password" in str(error)
        assert SECRET not in f"{error!r} {store!r} {vars(store)!r} {error.__cause__!r}"
    none = store_at(accounts.place, namespace=namespace)
    async with opened(none):
        for call in (none.read(HERE), none.compare_and_put(record(), None), none.buckets(()), anext(none.watch(HERE))):
            error = await raised(call)
            assert isinstance(error, Denied)
        assert "etcd://user:password@host" in str(error)
        answer = (await none.put([record(owned=False)]))[key()]
        assert isinstance(answer, Denied)
    assert SECRET not in caplog.text


@bounded
async def test_credentials_for_a_server_that_wants_none(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store = store_at(f"{server.host}:{server.port}", "user:password@", namespace=namespace)
    async with opened(store), following(store) as follower:
        await store.put([record()])
        await follower.shows({key(): b"1"})


@bounded
async def test_the_documented_rights_are_enough(accounts: Accounts, namespace: str) -> None:
    writer_name, reader_name = uuid.uuid4().hex, uuid.uuid4().hex
    accounts.add(writer_name, "w", **{namespace: "READWRITE"})
    accounts.add(reader_name, "r", **{namespace: "READ"})
    writer = store_at(accounts.place, f"{writer_name}:w@", namespace=namespace)
    reader = store_at(accounts.place, f"{reader_name}:r@", namespace=namespace)
    async with opened(writer, reader), following(reader) as follower, following(writer, Bucket((), deep=True)):
        await writer.put([record(), record("b", owned=False), *(record(f"{number}") for number in range(20))])
        revision = await writer.compare_and_put(record("c"), None)
        await writer.compare_and_delete(key("c"), revision)
        await writer.delete([key("b"), *(key(f"{number}") for number in range(20))])
        assert not await writer.renew()
        await follower.shows({key(): b"1"})
        assert not await reader.renew()
        assert list(await reader.buckets(())) == ["services"]
        assert isinstance((await reader.put([record("d")]))[key("d")], Denied)
        assert isinstance((await reader.delete([key()]))[key()], Denied)
        assert not await reader.renew()
        await writer.close()
        await follower.shows({})


@bounded
async def test_a_missing_right_for_one_key_costs_that_one(accounts: Accounts, namespace: str) -> None:
    user = uuid.uuid4().hex
    accounts.add(user, "u", **{f"{namespace}/mine": "READWRITE", f"{namespace}/shown": "READ"})
    store = store_at(accounts.place, f"{user}:u@", namespace=namespace)
    mine = [Record(("mine",), f"{number}", b"") for number in range(200)]
    others = [Record(("shown",), "a", b""), Record(("hidden",), "a", b"")]
    async with opened(store):
        answers = await store.put([*mine[:77], others[0], *mine[77:], others[1]])
        assert {one.key for one in others} == {name for name, one in answers.items() if isinstance(one, Denied)}
        assert len(await values(store, Bucket(("mine",)))) == 200
        assert await values(store, Bucket(("shown",))) == {}
        for call in (store.read(Bucket(("hidden",))), anext(store.watch(Bucket(("hidden",))))):
            error = await raised(call)
            assert isinstance(error, Denied)
            assert "readwrite on the prefix" in str(error)
        refused = await store.delete([mine[0].key, others[0].key])
        assert list(refused) == [others[0].key]
        assert not await store.renew()
        accounts.permit(user, f"/unit/{namespace}/shown", "READWRITE")
        assert isinstance((await store.put([others[0]]))[others[0].key], str), "granted later"


@bounded
async def test_tokens_that_are_over(accounts: Accounts, namespace: str) -> None:
    user = uuid.uuid4().hex
    accounts.add(user, "u", **{namespace: "READWRITE"})
    store, writer = (store_at(accounts.place, f"{user}:u@", namespace=namespace) for _ in range(2))
    async with opened(store, writer), following(store) as follower:
        await writer.put([record()])
        await follower.shows({key(): b"1"})
        for number in range(3):
            session = writer._session
            assert session is not None
            before = session.link.token
            await asyncio.sleep(2.2)  # the server looks every second for those that are a second old
            began = time.monotonic()
            value = b"%d" % number
            assert isinstance((await writer.put([record(value=value)]))[key()], str)
            await follower.shows({key(): value}, 2.0)
            assert time.monotonic() - began < 2.0
            assert session.link.token != before, "the token was over"
            async with following(store, Bucket(("another", f"{number}"))) as other:
                await writer.put([Record(("another", f"{number}"), "a", value)])
                await other.shows({RecordKey(("another", f"{number}"), "a"): value}, 2.0)
        assert not await writer.renew()
        # A server that starts again knows no token of before.
        await asyncio.to_thread(accounts.server.kill)
        await asyncio.to_thread(accounts.server.start)
        await eventually_async(lambda: works(writer.renew), 2.0)
        await writer.put([record(value=b"after")])
        await follower.shows({key(): b"after"}, 2.0)


def test_registries_outlive_their_tokens(accounts: Accounts, namespace: str) -> None:
    user = uuid.uuid4().hex
    accounts.add(user, "u", **{namespace: "READWRITE"})
    url = f"etcd://{user}:u@{accounts.place}/unit?namespace={namespace}&snapshot=off"
    with Registry(url) as publisher, Registry(url) as consumer, Registry(url) as reader:
        registration = publisher.publish("a", "10.0.0.1:1")
        consumer.subscribe("a", lambda _: None)

        def equal() -> bool:
            seen = consumer.lookup("a")
            return not seen.stale and set(seen) == set(reader.lookup("a")) == set(registration.instances)

        for weight in (1, 2):
            time.sleep(2.2)  # the server looks every second for tokens that are a second old
            registration.update(weight=weight, timeout=2.0)
            consumer.subscribe(f"another {weight}", lambda _: None, timeout=2.0)
            eventually(equal, 2.0)
        accounts.server.kill()
        accounts.server.start()
        # Tokens are in memory only.
        eventually(lambda: works_quietly(lambda: registration.update(weight=3, timeout=0.5)), 2.0)
        eventually(equal, 2.0)
        assert registration.state == "live"


@bounded
async def test_a_publisher_that_only_renews_outlives_its_token(accounts: Accounts, namespace: str) -> None:
    user = uuid.uuid4().hex
    accounts.add(user, "u", **{namespace: "READWRITE"})
    with accounts.server.proxy() as proxy:
        store = store_at(proxy.address, f"{user}:u@", namespace=namespace)

        async def missing() -> bool:
            with contextlib.suppress(Unavailable):
                return list(await store.renew()) == [key()]
            return False

        async with opened(store):
            for restarted in (False, True):
                await store.put([record()])
                assert not await store.renew()
                if restarted:
                    await asyncio.to_thread(accounts.server.kill)
                    await asyncio.to_thread(accounts.server.start)
                else:
                    await asyncio.sleep(2.2)  # the server looks every second for tokens that are a second old
                    proxy.cut()
                await eventually_async(lambda: works(store.renew), 2.0)
                assert not await store.renew()
                accounts.do("kv/deleterange", key=text(f"/unit/{namespace}/services/echo/a"))
                await eventually_async(missing, 2.0, "what is deleted is noticed", interval=0.05)


def works_quietly(call: Callable[[], object]) -> bool:
    try:
        call()
    except Unavailable:
        return False
    return True


@bounded
async def test_a_password_that_changes(accounts: Accounts, namespace: str, tmp_path: Path) -> None:
    user, file = uuid.uuid4().hex, tmp_path / "password"
    accounts.add(user, "old", **{namespace: "READWRITE"})
    file.write_text("old\n")
    store = store_at(accounts.place, f"{user}@", namespace=namespace, password_file=str(file))
    async with opened(store):
        await store.put([record()])
        accounts.do("auth/user/changepw", name=user, password="new")
        error = await raised(store.read(HERE))
        assert isinstance(error, Denied)
        file.write_text("new\n")
        assert await values(store) == {key(): b"1"}
        file.unlink()
        accounts.do("auth/user/changepw", name=user, password="newer")
        assert isinstance(await raised(store.read(HERE)), Unavailable)
        file.write_text("newer\n")
        assert await values(store) == {key(): b"1"}


@bounded
async def test_rights_that_are_taken_away_and_given_back(accounts: Accounts, namespace: str) -> None:
    user = uuid.uuid4().hex
    accounts.add(user, "u", **{namespace: "READWRITE"})
    store = store_at(accounts.place, f"{user}:u@", namespace=namespace)
    async with opened(store):
        await store.put([record()])
        head = f"/unit/{namespace}"
        accounts.do("auth/role/revoke", role=user, key=text(f"{head}/"), range_end=text(f"{head}0"))
        assert isinstance(await raised(store.read(HERE)), Denied)
        assert isinstance((await store.put([record()]))[key()], Denied)
        with contextlib.suppress(Denied):  # a newer server does not even renew the lease
            assert not await store.renew(), "what is refused is not lost"
        accounts.permit(user, head, "READWRITE")
        assert isinstance((await store.put([record(value=b"2")]))[key()], str)


def test_who_may_not_watch_does_not_hurry(accounts: Accounts, namespace: str) -> None:
    user, head = uuid.uuid4().hex, f"/unit/{namespace}"
    accounts.add(user, "u", **{namespace: "READWRITE"})
    with accounts.server.proxy() as proxy:
        url = f"etcd://{user}:u@{proxy.address}/unit?namespace={namespace}&snapshot=off"
        with Registry(url) as publisher:
            registration = publisher.publish("a", "10.0.0.1:1")
            session = publisher._opened().engine.backend._store._session
            watches: list[object] = []
            watch = session.stream.watch

            def counted(*words: object) -> object:
                watches.append(words)
                return watch(*words)

            session.stream.watch = counted
            accounts.do("auth/role/revoke", role=user, key=text(f"{head}/"), range_end=text(f"{head}0"))
            proxy.cut()
            time.sleep(3.0)
            assert len(watches) <= 4, "one for each renewal, and no more"
            accounts.permit(user, head, "READWRITE")
            eventually(lambda: all(one.watch and one.watch.id >= 0 for one in session.holdings._guards.values()), 3.0)
            accounts.do("kv/deleterange", key=text(f"{head}/"), range_end=text(f"{head}0"))
            eventually(lambda: publisher.lookup("a"), 3.0)
            assert registration.state == "live"


# Certificates.


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for localhost, and a client's."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on this machine")
    folder = tmp_path_factory.mktemp("certificates")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    openssl(*new, "-x509", "-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    for name, more in (("server", "subjectAltName=DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")):
        openssl(*new[:-2], "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
        (folder / "more").write_text(more)
        signing = (
            "-CA",
            folder / "ca.pem",
            "-CAkey",
            folder / "ca.key",
            "-CAcreateserial",
            "-extfile",
            folder / "more",
        )
        openssl("x509", "-req", "-days", 1, "-in", folder / f"{name}.csr", "-out", folder / f"{name}.pem", *signing)
    (folder / "both.pem").write_text((folder / "client.pem").read_text() + (folder / "client.key").read_text())
    return folder


class Secured:
    """A server that speaks TLS on localhost."""

    def __init__(self, version: str, folder: Path, data: Path, *more: str) -> None:
        self.port = free_port("127.0.0.1")
        prepare = PRODUCTS[version].local()
        if isinstance(prepare, str):
            pytest.skip(prepare)
        words = prepare(data, self.port, False)
        command = [word.replace(f"=http://127.0.0.1:{self.port}", f"=https://localhost:{self.port}") for word in words]
        files = (f"--cert-file={folder / 'server.pem'}", f"--key-file={folder / 'server.key'}")
        self.child = ChildProcess([*command, *files, *more], cwd=data)

    def store(self, host: str = "localhost", scheme: str = "etcds", **options: str) -> EtcdStore:
        return store_at(f"{host}:{self.port}", scheme=scheme, **options)


@pytest.fixture
def secured(version: str, certificates: Path, tmp_path: Path) -> Iterator[Callable[..., Secured]]:
    made: list[Secured] = []

    def make(*more: str) -> Secured:
        made.append(Secured(version, certificates, tmp_path, *more))
        return made[-1]

    yield make
    for one in made:
        one.child.kill()


@bounded
async def test_tls(secured: Callable[..., Secured], certificates: Path, own: OwnEtcd) -> None:
    server, ca = secured(), str(certificates / "ca.pem")
    good = server.store(ca=ca)
    await eventually_async(lambda: works(good.open), 15.0, "a server with TLS")
    async with following(good) as follower:
        await good.put([record()])
        await follower.shows({key(): b"1"})
    await good.close()
    plain = own()
    loop = asyncio.get_running_loop()
    for bad, words in (
        (server.store("127.0.0.1", ca=ca), "127.0.0.1"),
        (server.store(), "certificate_verify_failed"),
        (server.store(ca=str(certificates / "client.pem")), "certificate_verify_failed"),
        (server.store(scheme="etcd"), "etcds://"),
        (store_at(f"{plain.host}:{plain.port}", scheme="etcds", ca=ca), "etcd://"),
    ):
        began = loop.time()
        error = await raised(bad.open())
        assert isinstance(error, Unavailable)
        assert words in str(error).lower(), str(error)
        assert loop.time() - began < 2.5


@bounded
async def test_a_certificate_of_the_client(secured: Callable[..., Secured], certificates: Path) -> None:
    ca, cert, private = (str(certificates / name) for name in ("ca.pem", "client.pem", "client.key"))
    server = secured("--client-cert-auth", f"--trusted-ca-file={ca}")
    good = server.store(ca=ca, cert=cert, key=private)
    await eventually_async(lambda: works(good.open), 15.0, "a server with TLS")
    await good.put([record()])
    await good.close()
    in_one_file = server.store(ca=ca, cert=str(certificates / "both.pem"))
    async with opened(in_one_file):
        await in_one_file.put([record()])
    assert isinstance(await raised(server.store(ca=ca).open()), Unavailable)


@bounded
async def test_files_that_are_none(certificates: Path, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("no certificate")
    cert = str(certificates / "client.pem")
    for options in (
        {"ca": "/nowhere"},
        {"ca": str(rubbish)},
        {"ca": str(tmp_path)},
        {"cert": str(rubbish)},
        {"cert": cert},
        {"cert": cert, "key": str(rubbish)},
        {"cert": cert, "key": str(certificates / "server.key")},
    ):
        error = await raised(store_at("127.0.0.1:1", scheme="etcds", **options).open())
        assert isinstance(error, InvalidURL), options
        assert "the option c" in str(error) or "the option key" in str(error)


@pytest.mark.parametrize(
    ("url", "words"),
    (
        ("etcd://h?ca=x", "etcds://"),
        ("etcds://h?key=x", "the option cert"),
        ("etcd://:password@h", "user"),
        ("etcd://u:p@h?password_file=x", "keep one"),
        ("etcd://h?password_file=x", "etcd://user@host"),
        ("etcd://h/a//b", "between its slashes"),
        ("etcd://h?lease=0.5", "at least 1"),
    ),
)
def test_urls_that_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(InvalidURL, match=words):
        parse_target(url, BACKEND)


# Clusters.


class Cluster:
    """Three servers on loopback."""

    def __init__(self, version: str, folder: Path) -> None:
        prepare = PRODUCTS[version].local()
        if isinstance(prepare, str):
            pytest.skip(prepare)
        self.ports = [free_port("127.0.0.1") for _ in range(3)]
        peers = [free_port("127.0.0.1") for _ in range(3)]
        everybody = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
        self.commands: list[list[str]] = []
        for number, port in enumerate(self.ports):
            data = folder / f"m{number}"
            data.mkdir()
            command = [word for word in prepare(data, port, False) if "peer" not in word and "cluster" not in word]
            place = f"http://127.0.0.1:{peers[number]}"
            self.commands.append(
                [
                    *command,
                    f"--name=m{number}",
                    f"--listen-peer-urls={place}",
                    f"--initial-advertise-peer-urls={place}",
                    f"--initial-cluster={everybody}",
                ]
            )
        self.members = [ChildProcess(command, cwd=folder) for command in self.commands]
        self.folder = folder
        self.hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def leader(self) -> int:
        """Which of them leads, as one that runs says."""
        for number, port in enumerate(self.ports):
            if self.members[number].alive:
                status = ask(("127.0.0.1", port), "maintenance/status")
                if status["leader"] == status["header"]["member_id"]:
                    return number
        raise AssertionError("nobody leads")

    def restart(self, number: int) -> None:
        self.members[number] = ChildProcess(self.commands[number], cwd=self.folder)

    def close(self) -> None:
        for member in self.members:
            member.kill()


@pytest.fixture
def cluster(version: str, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(version, tmp_path)
    yield made
    made.close()


def used(store: EtcdStore, cluster: Cluster) -> int:
    """The member that a store is connected to."""
    session = store._session
    assert session is not None
    assert session.link.current is not None
    return cluster.ports.index(int(session.link.current.where.rpartition(":")[2]))


async def ready(store: EtcdStore) -> None:
    await eventually_async(lambda: works(store.open), 20.0, "a cluster")


@bounded
async def test_the_member_in_use_dies_or_hangs(cluster: Cluster, namespace: str) -> None:
    store, writer = (store_at(cluster.hosts, namespace=namespace, lease=6, call_timeout=2.0) for _ in range(2))
    await ready(store)
    async with opened(writer), following(store) as follower:
        await writer.put([record()])
        await follower.shows({key(): b"1"})
        for number, hurt in enumerate(("kill", "stop")):
            victim = used(writer, cluster)
            getattr(cluster.members[victim], hurt)()
            value = b"after %d" % number

            async def beats() -> bool:
                return await works(store.renew) & await works(writer.renew)

            # A new leader may have to be elected first.
            await eventually_async(beats, 8.0, "another member is used", interval=0.1)
            assert used(writer, cluster) != victim

            async def written() -> bool:
                return await works(lambda: writer.put([record(value=value)]))  # noqa: B023

            await eventually_async(written, 5.0)
            await follower.shows({key(): value}, 5.0)
            assert set(await values(writer)) == {key()}
            if hurt == "kill":
                cluster.restart(victim)
            else:
                cluster.members[victim].cont()
            await asyncio.sleep(0.5)
        assert not await writer.renew(), "the lease is the cluster's, not a member's"
    await store.close()


@bounded
async def test_a_member_that_lost_the_others_is_left(cluster: Cluster, namespace: str) -> None:
    store = store_at(cluster.hosts, namespace=namespace, lease=6, call_timeout=2.0)
    await ready(store)
    async with following(store) as follower:
        kept = used(store, cluster)
        others = [number for number in range(3) if number != kept]
        for number in others:
            cluster.members[number].stop()

        async def refuses() -> bool:
            return not await works(store.renew)

        await eventually_async(refuses, 10.0, "who has no leader is no registry", interval=0.2)
        await eventually_async(lambda: follower.cuts, 5.0, "its watch is cut")
        for number in others:
            cluster.members[number].cont()
        await eventually_async(lambda: works(store.renew), 10.0, interval=0.1)
        await eventually_async(lambda: works(lambda: store.put([record()])), 5.0)
        await follower.shows({key(): b"1"})
    await store.close()


@bounded
async def test_one_of_three_hosts_is_wrong(own: OwnEtcd, namespace: str) -> None:
    server = own()
    good = f"{server.host}:{server.port}"
    nobody = f"127.0.0.1:{free_port('127.0.0.1')}"
    loop = asyncio.get_running_loop()
    with server.proxy() as hole:
        hole.black_hole()
        wrong = (nobody, "no-such-host.invalid:2379", f"{hole.host}:{hole.port}")
        for bad in wrong:
            for hosts in (f"{bad},{good},{good}", f"{good},{bad},{good}"):
                store = store_at(hosts, namespace=namespace)
                began = loop.time()
                async with opened(store):
                    assert loop.time() - began < 2.5
                    await store.put([record()])
        store = store_at(",".join(wrong), namespace=namespace, call_timeout=3.0)
        began = loop.time()
        assert isinstance(await raised(store.open()), Unavailable)
        assert loop.time() - began < 3.0
