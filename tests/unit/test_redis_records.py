"""The records of the Redis store: names that are hard, neighbours, many and large ones, buckets that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from echo_records import HERE, following, key, opened, record, values
from redis_stores import Make, Raw, bounded, make, namespace, raw

from sofa_registry_adapters.backends.redis.commands import ServerCommands
from sofa_registry_adapters.backends.redis.scripting import Command
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StoreSnapshot
from sofa_registry_adapters.testing.faults.waiting import eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["make", "namespace", "raw"]


@bounded
async def test_neighbours_with_the_same_beginning(make: Make) -> None:
    store = make()
    paths = [("services", "foo"), ("services", "foobar"), ("services", "foo", "bar"), ("services",)]
    async with opened(store):
        await store.put([Record(path, "x", b"1") for path in paths])
        assert set(await values(store, Bucket(("services", "foo")))) == {RecordKey(("services", "foo"), "x")}
        assert {one.bucket for one in await values(store, Bucket(("services", "foo"), deep=True))} == {
            ("services", "foo"),
            ("services", "foo", "bar"),
        }
        assert {one.bucket for one in await values(store, Bucket((), deep=True))} == set(paths)
        assert set(await store.buckets(("services",))) == {"foo", "foobar"}
        assert list(await store.buckets(())) == ["services"]
        assert list(await store.buckets(("services", "foo"))) == ["bar"]


HARD = ["*", "?", "[ab]", "\\", "^-", "{x}", "}{", "~1", "%2F", ":", "a b", "ü€😀", "\x1f", "-", "0", "\n", "\udc80"]


@pytest.mark.parametrize("hard", HARD)
def test_hard_names_stay_apart(make: Make, hard: str) -> None:
    @bounded
    async def check() -> None:
        store = make()
        async with (
            opened(store),
            following(store, Bucket((hard,))) as exact,
            following(store, Bucket((hard,), deep=True)) as deep,
        ):
            wanted = {RecordKey((hard,), hard): b"1", RecordKey((hard, hard), hard): b"\x1f\x00\n"}
            others = [RecordKey((other,), other) for other in HARD if other != hard]
            await store.put([Record(at.bucket, at.name, value) for at, value in wanted.items()])
            await store.put([Record(at.bucket, at.name, b"2") for at in others])
            await deep.shows(wanted)
            await exact.shows({RecordKey((hard,), hard): b"1"})
            assert await values(store, Bucket((hard,), deep=True)) == wanted
            assert set(await store.buckets(())) == set(HARD)

    check()


@bounded
async def test_ten_thousand_records(make: Make) -> None:
    store, watcher = make(), make()
    records = [record(f"10.0.0.1:{number}", b"v" * 280) for number in range(10_000)]
    async with opened(store, watcher), following(watcher) as follower:
        began = asyncio.get_running_loop().time()
        answers = await store.put(records)
        assert asyncio.get_running_loop().time() - began < 3.0  # 0.15 s on an idle machine
        assert not [one for one in answers.values() if isinstance(one, RegistryError)]
        expected = {one.key: one.value for one in records}
        await follower.shows(expected)
        assert await values(watcher) == expected
        feed = watcher._session.feed  # type: ignore[union-attr]
        assert feed is not None
        sizes = []
        deliver = feed._deliver
        feed._deliver = lambda *told: (sizes.append(len(told[2])), deliver(*told))[1]  # type: ignore[method-assign, func-returns-value]
        count = len(follower.messages)
        await store.put([record("10.0.0.1:5", b"w")])
        await follower.shows(expected | {key("10.0.0.1:5"): b"w"})
        assert len(follower.messages) == count + 1
        assert sum(sizes) < 200
        await store.close()
        await follower.shows({})
        assert follower.snapshots == 1


@bounded
async def test_a_slow_reader_gets_the_end_state(make: Make) -> None:
    store, watcher = make(log_length=100), make()
    async with opened(store, watcher):
        messages = watcher.watch(HERE)
        async with contextlib.aclosing(messages):  # type: ignore[type-var]
            await anext(messages)
            for number in range(30):
                await store.put([record(str(at), b"%d" % number * 1000) for at in range(300)])
            (inbox,) = {one for listeners in watcher._session.feed._listeners.values() for one in listeners}  # type: ignore[union-attr]
            assert inbox._size <= 16_000_000
            found = dict[RecordKey, bytes]()
            while found != await values(store):
                message = await anext(messages)
                if isinstance(message, StoreSnapshot):
                    found = {one.key: one.record.value for one in message.records}
                else:
                    found |= {one.key: one.record.value for one in message.changed}


@bounded
async def test_large_records_do_not_pile_up_in_the_log(make: Make, raw: Raw) -> None:
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record("small", owned=False)])
        for number in range(60):
            await store.put([record("large", b"%d" % number * 50_000, owned=False)])
        assert 4 <= raw.client.xlen(raw.log) <= 22, "two megabytes of them"
        await follower.shows(await values(store))
    for number in range(3):
        async with opened(store):
            await store.put([record("small", b"%d" % number, owned=False)])
    assert raw.client.xlen(raw.log) <= 30, "small ones trim nothing"


@bounded
async def test_nothing_is_left_open(make: Make, raw: Raw) -> None:
    def connections() -> int:
        return len(raw.client.client_list())

    before = connections()
    for _ in range(5):
        store = make()
        async with opened(store):
            async with following(store), following(store, Bucket(("x",), deep=True)):
                await store.put([record()])
                await asyncio.gather(*(store.read(HERE) for _ in range(10)))
                assert connections() <= before + 5
            await eventually_async(lambda: not raw.client.pubsub_channels(raw.changes), 2.0, "no subscription")
    await eventually_async(lambda: connections() == before, 2.0, "connections are closed")


@bounded
async def test_a_bucket_that_changes_while_it_is_read_is_read_at_one_moment(make: Make) -> None:
    store = make()
    async with opened(store):
        await store.put([record(str(number)) for number in range(100)])
        session = store._session
        assert session is not None
        run = session.commands.run

        async def disturbed(commands: Sequence[Command]) -> list[Any]:
            answers = await run(commands)
            if commands[0][0] == "HMGET":
                answers[0], answers[1] = [b"other", b"1", b"n"], answers[1][:10]
            return answers

        session.commands.run = disturbed  # type: ignore[method-assign]
        assert len(await values(store)) == 100


async def buckets_of(store: RedisStore) -> list[str]:
    return list(await store.buckets(("services",)))


async def leave_empty(store: RedisStore) -> None:
    """The bucket is in the index, with nothing in it."""
    await store.put([record(owned=False)])
    await store.delete([key()])


@bounded
async def test_a_bucket_that_is_filled_while_it_is_tidied_away_is_found(make: Make) -> None:
    tidying, writing = make(), make()
    async with opened(tidying, writing):
        await leave_empty(writing)
        session = tidying._session
        assert session is not None
        one = session.commands.one

        async def overtaken(command: Command) -> Any:
            if command[0] == "ZREM":
                await writing.put([record(owned=False)])
            return await one(command)

        session.commands.one = overtaken  # type: ignore[method-assign]
        assert await buckets_of(tidying) == [], "it was empty when it was looked at"
        assert await buckets_of(writing) == ["echo"]
        assert await values(writing, Bucket(("services",), deep=True)) == {key(): b"1"}


@pytest.mark.parametrize("compared", (False, True))
def test_a_bucket_that_is_tidied_away_while_it_is_filled_is_found(make: Make, *, compared: bool) -> None:
    @bounded
    async def check() -> None:
        tidying, writing = make(), make()
        async with opened(tidying, writing):
            await leave_empty(writing)
            session = writing._session
            assert session is not None
            assert isinstance(session.commands, ServerCommands)
            send = session.commands._send

            async def overtaken(commands: Sequence[Command]) -> list[Any]:
                if commands[0][0] != "ZADD":
                    return await send(commands)
                # Another connection's command may be carried out between any two of these.
                entered = await send(commands[:1])
                assert await buckets_of(tidying) == []
                return entered + await send(commands[1:])

            session.commands._send = overtaken  # type: ignore[method-assign]
            if compared:
                await writing.compare_and_put(record(owned=False), None)
            else:
                await writing.put([record(owned=False)])
            assert await buckets_of(tidying) == ["echo"]

    check()
