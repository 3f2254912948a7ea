"""What the etcd store loses is noticed: to an operator, with its leases, while its write has not ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from echo_records import following, key, opened, record, values
from etcd_stores import Make, ask, bounded, compact, make, namespace, own, raised, server, store_at, text, version

from sofa_registry_adapters.backends.etcd import reading, writing
from sofa_registry_adapters.backends.etcd.holding import Guard
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.reading import Seen
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.backends.etcd.writing import Task
from sofa_registry_adapters.errors import Conflict, Unavailable
from sofa_registry_adapters.spi.store import Record, RecordKey
from sofa_registry_adapters.testing.faults import eventually_async
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["make", "namespace", "own", "server", "version"]


async def missing(store: EtcdStore, *expected: RecordKey, seconds: float = 2.0) -> None:
    async def all_seen() -> bool:
        with contextlib.suppress(Unavailable):
            return set(await store.renew()) == set(expected)
        return False

    await eventually_async(all_seen, seconds, "renew reports what is missing", interval=0.05)


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
