"""The connections of the ZooKeeper store: credentials, black holes, resets, servers that die, freeze or come back empty."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest
from echo_records import HERE, key, record
from zookeeper_place import Follower, bounded, connection_threads, opened, put, reports

from sofa_registry_adapters.backends.zookeeper.store import ZooKeeperStore
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service


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
