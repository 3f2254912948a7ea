"""The records of the ZooKeeper store: many, together, too large, without parents; and URLs that cannot be used."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from echo_records import HERE, key, record
from zookeeper_place import Follower, bounded, opened, put

from sofa_registry_adapters.backends.zookeeper import BACKEND
from sofa_registry_adapters.errors import InvalidURL, Unavailable, ValueTooLarge
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.store import StoreSnapshot
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.services import Service


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
