"""The watches of the ZooKeeper store: those that outlive their bucket, those that guard own records, and what they cost."""

from __future__ import annotations

import asyncio

import pytest
from echo_records import key, record
from zookeeper_place import Follower, bounded, opened, put, reports

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.backends.zookeeper.store import ZooKeeperStore
from sofa_registry_adapters.errors import Conflict
from sofa_registry_adapters.spi.store import Bucket
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.services import Service


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
