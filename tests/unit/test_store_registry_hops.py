"""A layout whose records lead to further records: mappings, applications, metadata."""

from __future__ import annotations

import pytest
from store_double import A, Double, Hops, bounded, memory, name, one

from sofa_registry_adapters import Instance, ServiceKey
from sofa_registry_adapters.backends.memory import Space, space
from sofa_registry_adapters.engine.reactor import Closing
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import (
    RegistryError,
    Unavailable,
)
from sofa_registry_adapters.spi.registry import Snapshot
from sofa_registry_adapters.spi.store import (
    Bucket,
    Record,
    RecordKey,
)

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name"]


class TestHops:
    @staticmethod
    def map_to(place: Space, zone: str) -> None:
        place.write_behind(Record(("map", "a"), zone, b"", owned=False))

    @staticmethod
    def put(place: Space, name: str, zone: str) -> None:
        place.write_behind(Hops().record(A, one(name, zone=zone)))

    @bounded
    async def test_lookup_goes_all_the_way(self, name: str) -> None:
        registry, place = memory(name, Hops()), space(name)
        await registry.open()
        self.put(place, "x", "east")
        assert (await registry.lookup(A)).instances == ()  # type: ignore[union-attr]
        self.map_to(place, "east")
        self.map_to(place, "west")
        self.put(place, "y", "west")
        found = await registry.lookup(A)
        assert found is not None
        assert {item.instance_id for item in found.instances} == {"x", "y"}

    @bounded
    async def test_a_watch_follows_the_mapping(self, name: str) -> None:
        registry, place = memory(name, Hops()), space(name)
        await registry.open()
        self.map_to(place, "east")
        self.put(place, "x", "east")
        seen: dict[str, Instance] = {}

        async def until(ids: set[str]) -> None:
            while set(seen) != ids:
                update = await anext(updates)
                if isinstance(update, Snapshot):
                    seen.clear()
                    seen.update({item.instance_id: item for item in update.instances})
                else:
                    seen.update({item.instance_id: item for item in update.changed})
                    for gone in update.removed:
                        del seen[gone]

        async with Closing(registry.watch(A)) as updates:
            await until({"x"})
            self.put(place, "y", "west")
            self.map_to(place, "west")
            await until({"x", "y"})
            self.put(place, "z", "west")
            await until({"x", "y", "z"})
            place.delete_behind(RecordKey(("map", "a"), "east"))
            await until({"y", "z"})
            place.delete_behind(RecordKey(("in", "west"), "y"))
            await until({"z"})
            assert set(place._feeds) == {Bucket(("map", "a")), Bucket(("in", "west"))}
        assert place._feeds == {}

    @bounded
    async def test_a_cut_of_one_source_cuts_the_watch(self, name: str) -> None:
        registry, place = memory(name, Hops()), space(name)
        await registry.open()
        self.map_to(place, "east")
        async with Closing(registry.watch(A)) as updates:
            await anext(updates)
            place.partition()
            with pytest.raises(Unavailable):
                await anext(updates)
        assert place._feeds == {}

    @pytest.mark.parametrize("error", (Unavailable("down"), KeyError("a defect")))
    def test_a_source_that_fails_in_any_way_cuts_the_watch(self, error: Exception) -> None:
        @bounded
        async def test() -> None:
            store = Double()
            store.raising["watch"] = [error]
            async with Closing(StoreRegistry(store, Hops()).watch(A)) as updates:
                with pytest.raises((RegistryError, KeyError)):
                    await anext(updates)

        test()

    @bounded
    async def test_a_layout_that_goes_round_in_circles_is_stopped(self, name: str) -> None:
        registry = memory(name, Hops())
        await registry.open()
        with pytest.raises(Unavailable, match="more than"):
            await registry.lookup(ServiceKey("circle"))
        with pytest.raises(Unavailable, match="more than"):
            await anext(registry.watch(ServiceKey("circle")))
