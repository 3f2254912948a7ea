"""Promises 1 to 4 and 7 of `RecordStore`: who may write what, and for how long it stays."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from sofa_registry_adapters.errors import Conflict, RegistryError, ValueTooLarge
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, RecordStore
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.store_kit import (
    HERE,
    PLACE,
    STEP_SECONDS,
    Stores,
    bounded,
    contents,
    erase,
    holds,
    key,
    look,
    need,
    record,
    reports,
    values,
    write,
)


class OwnershipContract:
    """See the module."""

    @bounded
    async def test_1_put_writes_a_record_that_is_mine(self, stores: Stores) -> None:
        mine, others = await stores.open(), await stores.open()
        answers = await write(mine, record("a", b"hello"))
        assert await contents(mine, HERE) == {key("a"): (b"hello", "mine", answers[key("a")])}
        assert await contents(others, HERE) == {key("a"): (b"hello", "other", answers[key("a")])}

    @bounded
    async def test_1_put_overwrites_what_is_mine(self, stores: Stores) -> None:
        store = await stores.open()
        first = await write(store, record("a", b"1"))
        second = await write(store, record("a", b"2"))
        assert first != second, "another value has another revision"
        assert await look(store, key("a")) == (b"2", "mine", second[key("a")])

    @bounded
    async def test_1_put_is_idempotent(self, stores: Stores) -> None:
        store = await stores.open()
        for _ in range(3):
            answers = await write(store, record("a"), record("b", owned=False))
            found = await contents(store, HERE)
            assert {name: one.revision for name, one in found.items()} == answers
            assert {name: one.owner for name, one in found.items()} == {key("a"): "mine", key("b"): "none"}
        assert not await store.renew()

    @bounded
    async def test_1_put_over_anothers_record_is_a_conflict(self, stores: Stores) -> None:
        holder, store = await stores.open(), await stores.open()
        await write(holder, record("a", b"first"))
        before = await look(holder, key("a"))
        answers = await store.put([record("a", b"second")])
        assert isinstance(answers[key("a")], Conflict)
        assert await look(holder, key("a")) == before
        assert not await holder.renew()
        await store.close()
        assert await look(holder, key("a")) == before, "who was refused takes nothing away"

    @bounded
    async def test_1_a_permanent_record_overwrites_a_permanent_one(self, stores: Stores) -> None:
        writer, store = await stores.open(), await stores.open()
        await write(writer, record("a", b"1", owned=False))
        answers = await write(store, record("a", b"2", owned=False))
        assert await look(writer, key("a")) == (b"2", "none", answers[key("a")])

    @bounded
    async def test_1_a_permanent_record_does_not_overwrite_anothers(self, stores: Stores) -> None:
        holder, store = await stores.open(), await stores.open()
        await write(holder, record("a", b"1"))
        answers = await store.put([record("a", b"2", owned=False)])
        assert isinstance(answers[key("a")], Conflict)
        found = await look(holder, key("a"))
        assert found is not None
        assert (found.value, found.owner) == (b"1", "mine")

    @bounded
    async def test_2_put_answers_key_by_key(self, stores: Stores) -> None:
        holder, store = await stores.open(), await stores.open()
        await write(holder, record("taken"))
        big = b"x" * (store.capabilities.max_value_bytes + 1)
        answers = await store.put([record("a"), record("taken", b"2"), record("big", big), record("b")])
        kinds = {name.name: type(answer) for name, answer in answers.items()}
        assert kinds == {"a": str, "taken": Conflict, "big": ValueTooLarge, "b": str}
        assert set(await contents(store, HERE)) == {key("a"), key("b"), key("taken")}

    @bounded
    async def test_2_put_writes_in_order(self, stores: Stores) -> None:
        store = await stores.open()
        await store.put([record("a", b"1"), record("b"), record("a", b"2")])
        assert await values(store, HERE) == {key("a"): b"2", key("b"): b"1"}

    @bounded
    async def test_2_nothing_to_write_is_nothing_done(self, stores: Stores) -> None:
        store = await stores.open()
        assert await store.put([]) == {}
        assert await store.delete([]) == {}

    @bounded
    async def test_2_many_records_in_one_call(self, stores: Stores) -> None:
        store = await stores.open()
        records = [Record((*PLACE, f"{number % 7}"), f"{number}", b"x" * 100, owned=False) for number in range(600)]
        await write(store, *records)
        deep = Bucket(PLACE, deep=True)
        assert await values(store, deep) == {one.key: one.value for one in records}
        await erase(store, *(one.key for one in records[:-1]))
        assert set(await values(store, deep)) == {records[-1].key}

    @bounded
    async def test_3_delete(self, stores: Stores) -> None:
        holder, store = await stores.open(), await stores.open()
        await write(holder, record("other"), record("permanent", owned=False))
        await write(store, record("own"))
        await erase(store, *map(key, ("absent", "own", "other", "permanent")))
        assert set(await contents(store, HERE)) == {key("other")}, "another owner's record stays"
        assert not await holder.renew()
        assert not await store.renew(), "what its owner deleted is not missing"

    @bounded
    async def test_3_delete_where_there_is_no_bucket(self, stores: Stores) -> None:
        store = await stores.open()
        await erase(store, RecordKey(("no", "such", "bucket"), "a"))

    @bounded
    async def test_4_renew_reports_what_was_deleted_behind_the_owners_back(self, stores: Stores) -> None:
        store, accomplice = await stores.open(), await stores.open()
        await write(store, record("a"), record("b"), record("c"))
        assert not await store.renew()
        for name in ("a", "b"):
            await stores.delete_behind(accomplice, key(name))
        await reports(store, key("a"), key("b"))
        await write(store, record("a"))
        await erase(store, key("b"))
        assert not await store.renew(), "what was put or deleted again is no longer missing"
        assert set(await contents(store, HERE)) == {key("a"), key("c")}

    @bounded
    async def test_4_a_record_is_found_missing_each_time(self, stores: Stores) -> None:
        store, accomplice = await stores.open(), await stores.open()
        for _ in range(3):
            await write(store, record("a"))
            await stores.delete_behind(accomplice, key("a"))
            await reports(store, key("a"))

    @bounded
    async def test_4_lost_has_a_reason(self, stores: Stores) -> None:
        store, accomplice = await stores.open(), await stores.open()
        await write(store, record("a"), record("b"))
        await erase(store, key("b"))
        assert not await store.renew()
        assert not await _lost(store, 0.3), "nothing was lost"
        await stores.delete_behind(accomplice, key("a"))
        if await _lost(store, store.capabilities.detects_loss_within):
            assert set(await store.renew()) == {key("a")}, "it returned, and renew found nothing"
            await erase(store, key("a"))
            assert not await _lost(store, 0.3), "it was told already"

    @bounded
    async def test_4_a_live_owner_outlives_its_lease(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        need(store.capabilities, "lease")
        await write(store, record("a"))
        replica = await stores.replica(reader, HERE) if reader.capabilities.push else None
        until = asyncio.get_running_loop().time() + 1.5 * store.lease
        while asyncio.get_running_loop().time() < until:
            assert not await store.renew()
            await reader.renew()
            await asyncio.sleep(store.lease / 6)
        assert set(await contents(reader, HERE)) == {key("a")}
        assert replica is None or len(replica.messages) == 1, "who stays alive changes nothing"

    @bounded
    async def test_7_owned_records_vanish_with_their_owner(self, stores: Stores) -> None:
        leaver, stayer = await stores.open(), await stores.open()
        await write(leaver, record("leaver"), record("permanent", owned=False))
        await write(stayer, record("stayer"))
        await leaver.close()
        await holds(stayer, {key("stayer"), key("permanent")})
        assert not await stayer.renew()

    @bounded
    async def test_7_close_may_be_called_at_any_time(self, stores: Stores) -> None:
        store = stores.new()
        await store.close()
        await store.open()
        await asyncio.gather(store.close(), store.close())
        await store.close()

    @bounded
    async def test_7_a_store_opens_again_as_another_owner(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        for number in range(3):
            await write(store, record(f"{number}"))
            await store.close()
            await holds(reader, set())
            await store.open()
            assert not await store.renew()
        await write(store, record("a"))
        found = await look(store, key("a"))
        assert found is not None
        assert found.owner == "mine"

    @bounded
    async def test_7_a_closed_store_says_nothing_but_errors(self, stores: Stores) -> None:
        store, writer = await stores.open(), await stores.open()
        await write(writer, record("a"))
        await store.close()
        calls = (store.read(HERE), store.put([record("b")]), store.delete([key("a")]), store.renew())
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [answer for answer in answers if not isinstance(answer, RegistryError)] == []

    @bounded
    async def test_7_a_closed_store_leaves_nothing_behind(self, stores: Stores) -> None:
        await _live_and_close(stores)
        threads, files = threading.active_count(), _open_files()
        for _ in range(5):
            await _live_and_close(stores)
        await eventually_async(
            lambda: threading.active_count() <= threads and _open_files() <= files,
            STEP_SECONDS,
            f"closed stores leave no thread and no open file (before: {threads} and {files})",
        )


async def _lost(store: RecordStore, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await store.lost()
    except TimeoutError:
        return False
    return True


async def _live_and_close(stores: Stores) -> None:
    store = await stores.open()
    await write(store, record("a"))
    if store.capabilities.push:
        await stores.replica(store, HERE)
    await store.close()


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0
