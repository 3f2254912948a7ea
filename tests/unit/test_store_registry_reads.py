"""A registry made of a store and a layout reads: lookups, watches and what is made of several records with one id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import pytest
from store_double import NATIVE, A, B, bounded, memory, name, one, registry, store, wanted

from sofa_registry_adapters import Instance, Revision, ServiceKey
from sofa_registry_adapters.backends.memory import space
from sofa_registry_adapters.engine.assembly import CHUNK, Assembly
from sofa_registry_adapters.engine.reactor import Closing
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import (
    CorruptRecord,
    Unsupported,
)
from sofa_registry_adapters.layouts.native import NativeLayout, encode_instance
from sofa_registry_adapters.spi.layout import Seen
from sofa_registry_adapters.spi.registry import Patch, Snapshot, Wanted
from sofa_registry_adapters.spi.store import (
    Record,
    RecordKey,
    Stored,
)

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name", "registry", "store"]


class TestReading:
    @bounded
    async def test_lookup_and_its_cheap_answer(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        assert (await registry.lookup(A)).instances == ()  # type: ignore[union-attr]
        await registry.announce(wanted(a=[one("x")]), [A])
        found = await registry.lookup(A)
        assert found is not None
        assert found.instances == (one("x"),)
        assert await registry.lookup(A, found.revision) is None

    @bounded
    async def test_a_corrupt_record_costs_itself_only(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        await registry.announce(wanted(a=[one("x")]), [A])
        space(name).write_behind(Record(NATIVE.bucket(A).path, "bad", b"{"))
        found = await registry.lookup(A)
        assert found is not None
        assert found.instances == (one("x"),)
        assert [rejected.record for rejected in found.rejected] == ["bad"]

    @bounded
    async def test_a_neighbour_is_not_read(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        await registry.announce(
            Wanted(
                {ServiceKey("foo"): (one("x"),), ServiceKey("foobar"): (one("y"),), ServiceKey("foo", "1"): (one("z"),)}
            ),
            [ServiceKey("foo"), ServiceKey("foobar"), ServiceKey("foo", "1")],
        )
        assert (await registry.lookup(ServiceKey("foo"))).instances == (one("x"),)  # type: ignore[union-attr]

    @bounded
    async def test_services_are_those_with_an_instance(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        odd = ServiceKey("a/../b", "1.0", "g")
        await registry.announce(Wanted({B: (one("x"),), odd: (one("x"),)}), [B, odd])
        space(name).write_behind(Record(("services", "a:b:c:d"), "x", b""))
        space(name).write_behind(Record(("services", "%zz"), "x", b""))
        assert await registry.services() == [odd, B]

    @bounded
    async def test_a_store_that_cannot_list_says_so(self, registry: StoreRegistry) -> None:
        with pytest.raises(Unsupported):
            await registry.services()

    @bounded
    async def test_a_watch_yields_a_snapshot_then_patches(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        async with Closing(registry.watch(A)) as updates:
            assert isinstance(await anext(updates), Snapshot)
            await registry.announce(wanted(a=[one("x")]), [A])
            update = await anext(updates)
            assert isinstance(update, Patch)
            assert update.changed == (one("x"),)
            await registry.announce(wanted(), [A])
            update = await anext(updates)
            assert isinstance(update, Patch)
            assert update.removed == ("x",)
        registry.forget(A)
        assert not registry._assemblies


def stored(name: str, instance: Instance) -> Stored:
    return Stored(Record(("services", "a"), name, encode_instance(instance)), "1", "other")


class Loose(NativeLayout):
    """Native without the rule that the id is in the name; a weight of 13 is another service's, one of 14 is a defect."""

    def decode(self, service: ServiceKey, stored: Stored, seen: Seen) -> Instance | None:
        if not stored.record.value:
            raise CorruptRecord("empty")
        found = msgspec.json.decode(stored.record.value)
        if found.get("weight") == 14:
            raise KeyError("a defect of the layout")
        return (
            None
            if found.get("weight") == 13
            else one(found["id"], started=found.get("started", 0), weight=found.get("weight", 100))
        )


def by_key(records: Iterable[Stored]) -> dict[RecordKey, Stored]:
    return {each.key: each for each in records}


class TestAssembly:
    @staticmethod
    async def apply(assembly: Assembly, *changed: Stored, removed: Iterable[str] = ()) -> Patch:
        gone = [RecordKey(("services", "a"), name) for name in removed]
        return await assembly.apply(by_key(changed), gone, Revision("e", 2))

    @bounded
    async def test_of_two_records_with_one_id_the_later_start_wins(self) -> None:
        assembly = Assembly(Loose(), A)
        records = [stored("1", one("x", started=5)), stored("2", one("x", started=9)), stored("3", one("y"))]
        for order in (records, records[::-1]):
            snapshot = await assembly.reset(by_key(order), Revision("e", 1))
            assert sorted((item.instance_id, item.started) for item in snapshot.instances) == [("x", 9), ("y", 0)]

    @bounded
    async def test_the_next_one_steps_in_latest_first(self) -> None:
        assembly = Assembly(Loose(), A)
        await assembly.reset(
            by_key(stored(str(number), one("x", started=number)) for number in range(1, 21)), Revision("e", 1)
        )
        for number in range(20, 1, -1):
            update = await self.apply(assembly, removed=[str(number)])
            assert [item.started for item in update.changed] == [number - 1]
        assert (await self.apply(assembly, removed=["1"])).removed == ("x",)

    @bounded
    async def test_a_shadowed_record_may_change_and_go_unseen(self) -> None:
        assembly = Assembly(Loose(), A)
        await assembly.reset(
            by_key([stored("1", one("x", started=5)), stored("2", one("x", started=9))]), Revision("e", 1)
        )
        update = await self.apply(assembly, stored("1", one("x", started=6)))
        assert (update.changed, update.removed) == ((), ())
        update = await self.apply(assembly, stored("1", one("x", started=10)))
        assert [item.started for item in update.changed] == [10]
        update = await self.apply(assembly, removed=["2"])
        assert (update.changed, update.removed) == ((), ())
        update = await self.apply(assembly, stored("1", one("z")))
        assert ([item.instance_id for item in update.changed], update.removed) == (["z"], ("x",))

    @bounded
    async def test_what_cannot_be_decoded_keeps_its_last_good_value(self) -> None:
        assembly = Assembly(Loose(), A)
        bad = Stored(Record(("services", "a"), "1", b""), "2", "other")
        await assembly.reset(by_key([stored("1", one("x")), stored("2", one("y"))]), Revision("e", 1))
        update = await self.apply(assembly, bad)
        assert (update.changed, update.removed, [item.record for item in update.rejected]) == ((), (), ["1"])
        update = await self.apply(assembly, stored("2", one("y", weight=14)))
        assert (update.changed, update.removed, [item.record for item in update.rejected]) == ((), (), ["2"])
        assert "KeyError" in update.rejected[0].reason
        snapshot = await assembly.reset(by_key([bad, stored("2", one("y"))]), Revision("e", 3))
        assert {item.instance_id for item in snapshot.instances} == {"x", "y"}
        assert (await self.apply(assembly, removed=["1"])).removed == ("x",)

    @bounded
    async def test_a_record_that_became_another_services_is_gone(self) -> None:
        assembly = Assembly(Loose(), A)
        await assembly.reset(by_key([stored("1", one("x"))]), Revision("e", 1))
        assert (await self.apply(assembly, stored("1", one("x", weight=13)))).removed == ("x",)
        snapshot = await assembly.reset(by_key([stored("1", one("x", weight=13))]), Revision("e", 1))
        assert snapshot.instances == ()

    @bounded
    async def test_the_loop_gets_its_turn(self) -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        records = [stored(str(number), one(str(number))) for number in range(4 * CHUNK)]
        before = turns
        assembly = Assembly(NATIVE, A)
        await assembly.reset(by_key(records), Revision("e", 1))
        assert turns - before >= 3
        before = turns
        await assembly.apply(by_key(records), (), Revision("e", 2))
        assert turns - before >= 3
        counting.cancel()
