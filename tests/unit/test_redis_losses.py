"""What the Redis store loses is noticed: to an owner's death, to raw hands, to a server that forgot or went back in time."""

from __future__ import annotations

import contextlib

import pytest
import redis
from echo_records import HERE, following, key, opened, record, values
from redis_stores import Make, Raw, bounded, kill, make, missing, namespace, raw, store_at

from sofa_registry_adapters.errors import Conflict
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.plugin import OwnService

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["make", "namespace", "raw"]


@bounded
async def test_a_record_of_a_killed_owner_is_taken_when_its_lease_is_over(make: Make) -> None:
    first, second = make(lease=1), make(lease=1)
    async with opened(first, second):
        await first.put([record()])
        await kill(first)
        answers = await second.put([record(value=b"2")])
        assert isinstance(answers[key()], Conflict)

        async def taken() -> bool:
            return isinstance((await second.put([record(value=b"2")]))[key()], str)

        await eventually_async(taken, 2.5, "the lease is over")
        assert await values(second) == {key(): b"2"}
        assert not await second.renew()


@bounded
async def test_a_killed_owners_records_vanish_for_one_who_only_watches(make: Make) -> None:
    owner, watcher = make(lease=1), make(lease=1)
    async with opened(owner, watcher), following(watcher) as follower:
        await owner.put([record(str(number)) for number in range(20)])
        await follower.shows({key(str(number)): b"1" for number in range(20)})
        await kill(owner)

        async def gone() -> bool:
            await watcher.renew()
            return not follower.values

        await eventually_async(gone, 1.0 * 1.15 + 1.0, "I5: the lease and a bit", interval=0.2)
        assert follower.snapshots == 1, "their leaving was told, not read"


@bounded
async def test_a_flushed_server_is_noticed_at_the_next_renew(make: Make, own_redis: OwnService) -> None:
    service = own_redis()
    store, watcher = (store_at(service.host, service.port, "") for _ in range(2))
    keys = {RecordKey(("services", str(number)), "a") for number in range(120)}
    records = [Record(one.bucket, one.name, b"1") for one in keys]
    async with opened(store, watcher), following(watcher, Bucket(("services",), deep=True)) as follower:
        await store.put(records)
        await follower.shows(dict.fromkeys(keys, b"1"))
        assert not await store.renew()
        with contextlib.closing(redis.Redis(host=service.host, port=service.port)) as client:
            client.flushall()
        assert set(await store.renew()) == keys
        for _ in range(4):
            await watcher.renew()
        await follower.shows({})
        assert set(await store.renew()) == keys, "until they are put"
        await store.put(records)
        assert not await store.renew()
        await follower.shows(dict.fromkeys(keys, b"1"))
        assert set(await watcher.buckets(("services",))) == {one.bucket[1] for one in keys}


@bounded
async def test_a_server_that_comes_back_empty(own_redis: OwnService) -> None:
    service = own_redis()
    store, watcher = (store_at(service.host, service.port, "") for _ in range(2))
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        epoch = follower.messages[-1].revision.epoch
        service.wipe()
        await follower.shows({})
        assert follower.messages[-1].revision.epoch != epoch
        await missing(store, {key()}, 5.0)
        await store.put([record()])
        await follower.shows({key(): b"1"})
        assert follower.cuts >= 1


@bounded
async def test_cut_subscriptions_lose_nothing(make: Make, raw: Raw) -> None:
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        number = 0
        for _ in range(20):
            before = follower.cuts
            while follower.cuts == before:
                if number % 10 == 0:
                    raw.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await store.put([record(str(number % 50), b"%d" % number)])
                if number % 7 == 0:
                    await store.delete([key(str((number - 3) % 50))])
                number += 1
        assert follower.cuts >= 20
        await follower.shows(await values(store))
        assert not await store.renew()


@bounded
async def test_a_server_that_went_back_in_time_is_noticed(make: Make, raw: Raw) -> None:
    """A replica that became the primary without the newest writes has the same epoch and other changes."""
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record(f"{number}", owned=False) for number in range(10)])
        await follower.shows({key(f"{number}"): b"1" for number in range(10)})
        epoch = follower.messages[-1].revision.epoch
        for number in range(5, 10):
            raw.client.hdel(raw.records, str(number))
            raw.client.xdel(raw.log, f"{number + 1}-0")
        last = raw.client.xrevrange(raw.log, count=1)[0]
        assert last[0] == b"5-0"
        kept = [(name, fields) for name, fields in raw.client.xrange(raw.log)]
        raw.client.delete(raw.log)
        for name, fields in kept:
            raw.client.xadd(raw.log, fields, id=name)
        raw.client.hset(raw.state, mapping={"rev": 5, "count": 5, "nonce": last[1][b"n"]})
        await store.put([record(f"new-{number}", owned=False) for number in range(7)])
        await follower.shows(await values(store))
        assert follower.messages[-1].revision.epoch != epoch


@bounded
async def test_messages_that_never_came_are_noticed_by_renew(make: Make, raw: Raw) -> None:
    store, watcher = make(), make()
    async with opened(store, watcher), following(watcher) as follower:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        deliver = watcher._session.feed._deliver  # type: ignore[union-attr]
        watcher._session.feed._deliver = lambda *_: None  # type: ignore[union-attr, method-assign]
        await store.put([record(value=b"2")])
        watcher._session.feed._deliver = deliver  # type: ignore[union-attr, method-assign]
        for _ in range(3):
            await watcher.renew()
        await follower.shows({key(): b"2"})
        assert follower.snapshots == 1, "the log was enough"


@bounded
async def test_a_record_deleted_by_hand_is_noticed(make: Make, raw: Raw) -> None:
    store, other = make(), make()
    async with opened(store, other):
        await store.put([record(str(number)) for number in range(10)])
        await other.put([record("other")])
        assert not await store.renew()
        assert not await other.renew()
        raw.client.hdel(raw.records, "3", "other")
        await store.put([record("10")])
        assert set(await store.renew()) == {key("3")}
        assert set(await other.renew()) == {key("other")}
        await store.put([record("3")])
        await other.put([record("other")])
        for _ in range(3):
            assert not await store.renew()
            assert not await other.renew()
        assert len(await values(store)) == 12


@pytest.mark.parametrize("part", ("records", "leases", "names", "log", "state"))
def test_a_key_that_is_evicted_is_made_good(make: Make, raw: Raw, part: str) -> None:
    @bounded
    async def check() -> None:
        store, watcher = make(), make()
        wanted = [record(str(number)) for number in range(10)]
        async with opened(store, watcher), following(watcher) as follower:
            await store.put(wanted)
            await store.put(wanted)
            assert not await store.renew()
            raw.client.delete(getattr(raw, part))
            for _ in range(3):
                lost = {at.name for at in await store.renew()}
                await store.put([one for one in wanted if one.name in lost])
                await watcher.renew()
            assert not await store.renew()
            await store.put([record("new", b"2")])
            expected = {one.key: one.value for one in wanted} | {key("new"): b"2"}
            assert await values(watcher) == expected
            await follower.shows(expected)
            await store.close()
            await follower.shows({})

    check()


@bounded
async def test_values_written_by_hand_are_records_of_nobody(make: Make, raw: Raw) -> None:
    store = make()
    async with opened(store), following(store) as follower:
        await store.put([record()])
        raw.client.hset(raw.records, "strange", b"\xff\xfe")
        raw.client.hset(raw.records, b"\xff", b"x\x1fy")
        found = await store.read(HERE)
        assert found is not None
        assert {(one.key.name, one.owner) for one in found.records} == {
            ("a", "mine"),
            ("strange", "none"),
            ("\udcff", "none"),
        }
        await store.delete([key("strange"), key("\udcff")])
        await follower.shows({key(): b"1"})


@bounded
async def test_messages_that_are_not_ours_harm_nothing(make: Make, raw: Raw) -> None:
    store = make()
    async with opened(store), following(store) as follower, following(store, Bucket((), deep=True)) as deep:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        good = b"1 e n 1\n9 p 1 1\nab"
        for data in (
            b"",
            b"\xff",
            b"\n",
            b"1\n",
            b"2 e n 0\n",
            b"1 e n 9\n",
            good,
            good + b"x",
            good[:-1],
            b"x" * 100_000,
        ):
            raw.client.publish(raw.changes, data)
        raw.client.publish(raw.changes.replace("services", "strange"), good)
        await store.put([record("b")])
        for one in (follower, deep):
            await one.shows({key(): b"1", key("b"): b"1"})
            assert not one.cuts


@bounded
async def test_a_server_that_forgot_the_scripts(make: Make, raw: Raw) -> None:
    store = make()
    async with opened(store):
        for number in range(3):
            raw.client.script_flush()
            await store.put([record(str(at), b"%d" % number) for at in range(1200)])
            raw.client.script_flush()
            assert not await store.renew()
        assert set((await values(store)).values()) == {b"2"}


@bounded
async def test_older_data_behind_a_cut_is_noticed(make: Make, raw: Raw) -> None:
    """A server that comes back with yesterday's data: what was changed since is missing, what was deleted is there again."""
    store = make()
    async with opened(store):
        await store.put([record("changed"), record("deleted"), record("kept")])
        keys = [key for key in raw.client.keys(raw.records.rpartition(":")[0] + ":*") if isinstance(key, bytes)]
        older = {key: raw.client.dump(key) for key in keys}
        await store.put([record("changed", b"2")])
        await store.delete([key("deleted")])
        assert not await store.renew()
        for name, dumped in older.items():
            assert isinstance(dumped, bytes)
            raw.client.restore(name, 0, dumped, replace=True)
        raw.client.client_kill_filter(_type="normal", skipme=True)
        await missing(store, {key("changed"), key("deleted")}, 3.0)
        await store.put([record("changed", b"2")])
        await store.delete([key("deleted")])
        assert not await store.renew()
        assert await values(store) == {key("changed"): b"2", key("kept"): b"1"}
