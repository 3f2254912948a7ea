"""The accounts of the etcd store: wrong ones, rights that are enough or missing, tokens that are over, passwords that change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from echo_records import HERE, following, key, opened, record, values
from etcd_stores import ask, bounded, namespace, own, raised, store_at, text, version, works

from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import Denied, Unavailable
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey
from sofa_registry_adapters.testing.faults import eventually, eventually_async
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["namespace", "own", "version"]

SECRET = "s3cret-canary"


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
