"""The connections of the Redis store: a full server, a black hole, a half-open subscription, no server."""

from __future__ import annotations

import asyncio
import contextlib
import functools

import pytest
import redis
from echo_records import following, key, opened, record, values
from redis_stores import Make, bounded, make, namespace, store_at

from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["make", "namespace"]


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


async def alive(store: RedisStore) -> bool:
    try:
        await store.renew()
    except Unavailable:
        return False
    return True


@bounded
async def test_no_server(make: Make, namespace: str) -> None:
    with NetProxy(("127.0.0.1", 1)) as proxy:
        proxy.refuse()
        store = store_at(proxy.host, proxy.port, namespace)
        with pytest.raises(Unavailable, match=f"{proxy.port}"):
            await store.open()
        await store.close()
