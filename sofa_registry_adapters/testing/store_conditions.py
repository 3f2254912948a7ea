"""What the mix-ins of `RecordStore` promise, and that a store can do no more than it declares."""

from __future__ import annotations

import asyncio

from sofa_registry_adapters.errors import Conflict, Unsupported, ValueTooLarge
from sofa_registry_adapters.spi.store import ConditionalStore, ListableStore, Record, RecordStore
from sofa_registry_adapters.testing.store_kit import (
    HERE,
    Stores,
    bounded,
    conditional,
    contents,
    erase,
    holds,
    key,
    listable,
    look,
    raises,
    record,
    reports,
    write,
)


class ConditionsContract:
    """See the module."""

    @bounded
    async def test_conditional_create(self, stores: Stores) -> None:
        store, rival = await stores.open(), await stores.open()
        revision = await conditional(store).compare_and_put(record("a", b"1"), None)
        assert await look(store, key("a")) == (b"1", "mine", revision)
        for loser in (rival, store):
            assert await raises(Conflict, conditional(loser).compare_and_put(record("a", b"2"), None))
        assert await look(store, key("a")) == (b"1", "mine", revision)

    @bounded
    async def test_conditional_create_has_one_winner(self, stores: Stores) -> None:
        rivals = [conditional(await stores.open()) for _ in range(3)]
        for number in range(5):
            tries = (rival.compare_and_put(record(f"{number}"), None) for rival in rivals)
            answers = await asyncio.gather(*tries, return_exceptions=True)
            assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Conflict", "str"]

    @bounded
    async def test_conditional_put_demands_the_revision(self, stores: Stores) -> None:
        store = await stores.open()
        first = await conditional(store).compare_and_put(record("a", b"1"), None)
        second = await conditional(store).compare_and_put(record("a", b"2"), first)
        assert await raises(Conflict, conditional(store).compare_and_put(record("a", b"3"), first))
        assert await look(store, key("a")) == (b"2", "mine", second)
        await erase(store, key("a"))
        assert await raises(Conflict, conditional(store).compare_and_put(record("a", b"3"), second))
        assert await contents(store, HERE) == {}

    @bounded
    async def test_conditional_put_knows_a_record_that_was_made_anew(self, stores: Stores) -> None:
        store = await stores.open()
        first = await write(store, record("a"))
        await erase(store, key("a"))
        await write(store, record("a"))
        assert await raises(Conflict, conditional(store).compare_and_put(record("a", b"2"), first[key("a")]))
        assert await raises(Conflict, conditional(store).compare_and_delete(key("a"), first[key("a")]))

    @bounded
    async def test_conditional_takeover(self, stores: Stores) -> None:
        loser, winner, reader = [await stores.open() for _ in range(3)]
        revision = (await write(loser, record("a", b"1"), record("b")))[key("a")]
        revision = await conditional(winner).compare_and_put(record("a", b"2"), revision)
        assert await look(winner, key("a")) == (b"2", "mine", revision)
        await reports(loser, key("a"))
        await loser.close()
        await holds(reader, {key("a")})
        assert await look(winner, key("a")) == (b"2", "mine", revision), "it left with its former owner"
        assert not await winner.renew()
        await winner.close()
        await holds(reader, set())

    @bounded
    async def test_conditional_takeover_ends_with_a_delete(self, stores: Stores) -> None:
        loser, winner = await stores.open(), await stores.open()
        revision = (await write(loser, record("a")))[key("a")]
        await conditional(winner).compare_and_put(record("a"), revision)
        await erase(loser, key("a"))
        assert not await loser.renew()
        assert set(await contents(winner, HERE)) == {key("a")}

    @bounded
    async def test_conditional_put_of_a_permanent_record(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        first = await conditional(store).compare_and_put(record("a", b"1", owned=False), None)
        second = await conditional(reader).compare_and_put(record("a", b"2", owned=False), first)
        await store.close()
        assert await look(reader, key("a")) == (b"2", "none", second)

    @bounded
    async def test_conditional_delete(self, stores: Stores) -> None:
        store, rival = await stores.open(), await stores.open()
        old = (await write(store, record("a", b"1")))[key("a")]
        new = (await write(store, record("a", b"2")))[key("a")]
        assert await raises(Conflict, conditional(rival).compare_and_delete(key("a"), old))
        assert set(await contents(rival, HERE)) == {key("a")}
        await conditional(store).compare_and_delete(key("a"), new)
        assert await contents(rival, HERE) == {}
        assert not await store.renew(), "what its owner deleted is not missing"
        assert await raises(Conflict, conditional(store).compare_and_delete(key("a"), new))

    @bounded
    async def test_conditional_put_of_too_much(self, stores: Stores) -> None:
        store = await stores.open()
        big = record("a", b"x" * (store.capabilities.max_value_bytes + 1))
        try:
            await conditional(store).compare_and_put(big, None)
        except ValueTooLarge:
            assert await contents(store, HERE) == {}
        else:
            raise AssertionError("more bytes than max_value_bytes were accepted")

    @bounded
    async def test_what_is_declared_absent_is_absent(self, stores: Stores) -> None:
        store = await stores.open()
        if not store.capabilities.compare_and_set and isinstance(store, ConditionalStore):
            assert await raises(Unsupported, store.compare_and_put(record("a"), None)), "compare_and_set works"
        if not store.capabilities.list_services and isinstance(store, ListableStore):
            assert await raises(Unsupported, store.buckets(())), "list_services works"
        if not store.capabilities.push:
            assert await raises(Unsupported, _watched(store)), "push works"
        if not store.capabilities.lease:
            assert store.lease == 0.0, "without a lease there is nothing to renew"

    @bounded
    async def test_listing(self, stores: Stores) -> None:
        store, writer = await stores.open(), await stores.open()
        assert sorted(await listable(store).buckets(())) == []
        assert sorted(await listable(store).buckets(("root",))) == []
        await write(writer, *(Record(path, "1", b"") for path in (("root", "a"), ("root", "b", "deep"))))
        await write(writer, Record(("rooted", "c"), "1", b"", owned=False))
        assert sorted(await listable(store).buckets(("root",))) == ["a", "b"]
        assert sorted(await listable(store).buckets(())) == ["root", "rooted"]
        assert sorted(await listable(store).buckets(("root", "b"))) == ["deep"]

    @bounded
    async def test_listing_has_no_bucket_without_a_record(self, stores: Stores) -> None:
        store, writer = await stores.open(), await stores.open()
        place = Record(("root", "a"), "1", b"")
        await write(writer, place, Record(("root", "b"), "1", b"", owned=False))
        await erase(writer, place.key)
        assert sorted(await listable(store).buckets(("root",))) == ["b"]
        await writer.close()
        assert sorted(await listable(store).buckets(("root",))) == ["b"]


async def _watched(store: RecordStore) -> object:
    # Whoever leaves `watch` out raises when it is called, and not when it is asked for a message.
    return await anext(store.watch(HERE))
