"""Promise 6 of `RecordStore`, and what watches are told of the others: every change, once, in order."""

from __future__ import annotations

import asyncio

from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.store import (
    Bucket,
    Record,
    RecordKey,
    RecordStore,
    Stored,
    StorePatch,
    StoreSnapshot,
)
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.store_kit import (
    HERE,
    PLACE,
    STEP_SECONDS,
    Replica,
    Stores,
    bounded,
    close_iterator,
    conditional,
    contents,
    erase,
    key,
    need,
    record,
    write,
)


class WatchingContract:
    """See the module."""

    @bounded
    async def test_6_a_watch_begins_with_what_is_there(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        await write(writer, record("a"), record("b", owned=False))
        await write(store, record("c"))
        replica = await stores.replica(store, HERE)
        assert isinstance(replica.messages[0], StoreSnapshot)
        assert replica.content == await contents(store, HERE)
        owners = {name.name: one.owner for name, one in replica.content.items()}
        assert owners == {"a": "other", "b": "none", "c": "mine"}

    @bounded
    async def test_6_a_watch_of_a_bucket_that_does_not_exist_yet(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        place = ("not", "yet", "there")
        exact = await stores.replica(store, Bucket(place))
        above = await stores.replica(store, Bucket(("not",), deep=True))
        assert exact.records == above.records == {}
        await write(writer, Record(place, "a", b"1"))
        for replica in (exact, above):
            await replica.until(lambda replica=replica: replica.records, "the new bucket is seen")  # type: ignore[misc]
            await replica.equals(store)

    @bounded
    async def test_6_each_kind_of_change_is_told(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        replica = await stores.replica(store, HERE)
        for owned in (True, False):
            for value in (b"1", b"2", b""):
                await write(writer, record("a", value, owned=owned))
                await _becomes(replica, {key("a"): value})
            await erase(writer, key("a"))
            await _becomes(replica, {})

    @bounded
    async def test_6_a_change_is_a_patch(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        await write(writer, *(record(f"{number}") for number in range(200)))
        replica = await stores.replica(store, HERE)
        await write(writer, record("0", b"2"))
        await replica.until(lambda: replica.values[key("0")] == b"2", "a change is told")
        sizes = [len(one.changed) for one in replica.messages[1:] if isinstance(one, StorePatch)]
        assert sum(sizes) <= 10, f"one change cost messages with {sizes} records"

    @bounded
    async def test_6_nothing_is_lost_between_the_snapshot_and_the_patches(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        writing = asyncio.create_task(_churn(writer))
        replicas: list[Replica] = []
        while not writing.done():
            if len(replicas) < 12:
                replicas.append(await stores.replica(store, HERE))
            await asyncio.sleep(0.005)
        await writing
        assert len(replicas) > 1, "no watch began while the writer wrote"
        for replica in replicas:
            await replica.equals(store)

    @bounded
    async def test_6_changes_come_in_order(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        await write(writer, record("a", b"0", owned=False))
        replica = await stores.replica(store, HERE)
        for number in range(1, 101):
            await write(writer, record("a", b"%d" % number, owned=False))
        await _becomes(replica, {key("a"): b"100"})
        seen = [int(one.record.value) for message in replica.messages for one in _changed(message)]
        assert seen == sorted(seen), "a change came after a later one"
        assert len({message.revision.epoch for message in replica.messages}) == 1

    @bounded
    async def test_6_several_watches_of_one_bucket(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        replicas = [await stores.replica(store, HERE) for _ in range(3)]
        await write(writer, record("a"))
        await write(store, record("b"))
        for replica in replicas:
            await _becomes(replica, {key("a"): b"1", key("b"): b"1"})
        await replicas[0].close()
        await erase(writer, key("a"))
        for replica in replicas[1:]:
            await _becomes(replica, {key("b"): b"1"})
        assert key("a") in replicas[0].records, "a closed watch is told of nothing"

    @bounded
    async def test_6_many_buckets_at_once(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        places = [("services", f"s{number}") for number in range(30)]
        replicas = [await stores.replica(store, Bucket(place)) for place in places]
        await write(writer, *(Record(place, "a", place[1].encode()) for place in places))
        for place, replica in zip(places, replicas, strict=True):
            await _becomes(replica, {RecordKey(place, "a"): place[1].encode()})

    @bounded
    async def test_6_a_watch_is_told_of_its_own_bucket_alone(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        paths = (("foo",), ("foobar",), ("foo", "bar"), ("foo", "bar", "baz"))
        exact = [await stores.replica(store, Bucket(path)) for path in paths]
        deep = [await stores.replica(store, Bucket(path, deep=True)) for path in paths]
        await write(writer, *(Record(path, "1", b"1") for path in paths))
        for path, replica in zip(paths, exact, strict=True):
            await _becomes(replica, {RecordKey(path, "1"): b"1"})
        for path, replica in zip(paths, deep, strict=True):
            below = [one for one in paths if one[: len(path)] == path]
            await _becomes(replica, {RecordKey(one, "1"): b"1" for one in below})
        await erase(writer, RecordKey(("foo", "bar", "baz"), "1"))
        for replica in (*exact, *deep):
            await replica.equals(store)

    @bounded
    async def test_6_a_bucket_is_emptied_and_filled_again(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        exact = await stores.replica(store, HERE)
        deep = await stores.replica(store, Bucket(PLACE[:1], deep=True))
        for number in range(5):
            names = [f"{number}-{which}" for which in range(3)]
            await write(writer, *map(record, names))
            for replica in (exact, deep):
                await _becomes(replica, {key(name): b"1" for name in names})
            await erase(writer, *map(key, names))
            for replica in (exact, deep):
                await _becomes(replica, {})

    @bounded
    async def test_6_a_burst_of_changes(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        replica = await stores.replica(store, HERE)
        for number in range(5):
            await write(writer, *(record(f"{name}", b"%d" % number, owned=False) for name in range(300)))
        await erase(writer, *(key(f"{name}") for name in range(290)))
        await replica.equals(store)
        assert len(replica.records) == 10

    @bounded
    async def test_6_a_slow_watch_ends_at_the_same_state(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        messages = store.watch(HERE)
        state = _apply({}, await anext(messages))
        for number in range(600):
            await write(writer, record(f"{number % 50}", b"%d" % number, owned=False))
        expected = {name: one.value for name, one in (await contents(store, HERE)).items()}
        while state != expected:
            async with asyncio.timeout(STEP_SECONDS):
                state = _apply(state, await anext(messages))
        await close_iterator(messages)

    @bounded
    async def test_6_a_closed_watch_leaves_nothing_behind(self, stores: Stores) -> None:
        store, writer = await _two(stores)
        await (await stores.replica(store, HERE)).close()
        before = len(asyncio.all_tasks())
        for _ in range(30):
            await (await stores.replica(store, HERE)).close()
            await close_iterator(store.watch(HERE))
        await eventually_async(lambda: len(asyncio.all_tasks()) <= before, 2.0, "closed watches leave tasks")
        await write(writer, record("a"))
        await _becomes(await stores.replica(store, HERE), {key("a"): b"1"})

    @bounded
    async def test_6_a_cut_watch_raises(self, stores: Stores) -> None:
        store, _ = await _two(stores)
        replicas = [await stores.replica(store, HERE), await stores.replica(store, Bucket(("x",), deep=True))]
        await store.close()
        for replica in replicas:
            assert isinstance(await replica.error(), Unavailable)

    @bounded
    async def test_7_watches_are_told_that_an_owner_left(self, stores: Stores) -> None:
        store, leaver = await _two(stores)
        await write(leaver, record("leaver"), record("permanent", owned=False))
        await write(store, record("stayer"))
        replica = await stores.replica(store, HERE)
        await leaver.close()
        await _becomes(replica, {key("permanent"): b"1", key("stayer"): b"1"})
        assert replica.records[key("stayer")].owner == "mine"

    @bounded
    async def test_conditional_takeover_is_told(self, stores: Stores) -> None:
        loser, winner = await _two(stores)
        revision = (await write(loser, record("a")))[key("a")]
        told, at_winner = await stores.replica(loser, HERE), await stores.replica(winner, HERE)
        assert told.records[key("a")].owner == "mine"
        seen = at_winner.records[key("a")].revision
        assert seen == revision, "put, read and watch say the same revision"
        await conditional(winner).compare_and_put(record("a"), seen)
        await told.until(lambda: told.records[key("a")].owner == "other", "the loser sees the new owner")
        await at_winner.until(lambda: at_winner.records[key("a")].owner == "mine", "the winner does")
        await told.equals(loser)


async def _two(stores: Stores) -> tuple[RecordStore, RecordStore]:
    """Two owners; skips the test where a watch is declared impossible."""
    store = await stores.open()
    need(store.capabilities, "push")
    return store, await stores.open()


async def _becomes(replica: Replica, values: dict[RecordKey, bytes]) -> None:
    await replica.until(lambda: replica.values == values, f"a watch sees {sorted(values)} at last")


async def _churn(writer: RecordStore) -> None:
    """Put, overwrite and delete for a while, with pauses in which others get on."""
    # Permanent records wherever a test may take longer than a lease, which nobody renews here.
    for number in range(150):
        await write(writer, *(record(name, b"%d" % number, owned=False) for name in (f"{number}", "last")))
        if number % 3 == 0:
            await erase(writer, key(f"{number // 2}"))
        await asyncio.sleep(0.001)


def _changed(message: StoreSnapshot | StorePatch) -> list[Stored]:
    return list(message.records if isinstance(message, StoreSnapshot) else message.changed)


def _apply(state: dict[RecordKey, bytes], message: StoreSnapshot | StorePatch) -> dict[RecordKey, bytes]:
    kept = {} if isinstance(message, StoreSnapshot) else dict(state)
    if isinstance(message, StorePatch):
        for name in message.removed:
            kept.pop(name, None)
    return kept | {one.key: one.record.value for one in _changed(message)}
