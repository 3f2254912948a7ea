"""The sessions of the ZooKeeper store: they expire, hold so many bytes, and there may be several."""

from __future__ import annotations

import asyncio

from echo_records import HERE, key, record
from kazoo.client import KazooClient
from zookeeper_place import Follower, Place, bounded, connection_threads, opened, put, reports

from sofa_registry_adapters.backends.zookeeper.store import ZooKeeperStore
from sofa_registry_adapters.testing.services import Service


def expire(place: Place, store: ZooKeeperStore) -> None:
    """End the store's session from outside, as an expiry does."""
    client_id = store._sessions[0]._client.client_id
    thief = KazooClient(f"{place.service.host}:{place.service.port}", client_id=client_id)
    thief.start()
    thief.stop()
    thief.close()


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
