"""A registry made of a store and a layout writes: nothing attempted is forgotten, whatever is not known or refused."""

from __future__ import annotations

import asyncio

import pytest
from store_double import NATIVE, A, B, Double, bounded, key, one, registry, store, wanted

from sofa_registry_adapters import Instance, ServiceKey
from sofa_registry_adapters.engine.store_registry import BATCH, ECHOES, StoreRegistry
from sofa_registry_adapters.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    InvalidArgument,
    Unavailable,
)
from sofa_registry_adapters.layouts.native import NativeLayout, encode_instance
from sofa_registry_adapters.spi.store import (
    Record,
)
from sofa_registry_adapters.testing.faults import eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["registry", "store"]


class TestBooks:
    @bounded
    async def test_what_stands_is_not_written_again(self, store: Double, registry: StoreRegistry) -> None:
        want = wanted(a=[one("x"), one("y")], b=[one("x")])
        assert await registry.announce(want, [A, B]) == {}
        assert await registry.announce(want, [A, B]) == {}
        assert await registry.announce(wanted(a=[one("x"), one("y", weight=5)], b=[one("x")]), [A]) == {}
        assert [[record.key for record in batch] for batch in store.puts] == [
            [key("x"), key("y"), key("x", B)],
            [key("y")],
        ]
        assert not store.deletes

    @bounded
    async def test_what_is_wanted_no_more_is_deleted_last_written_first(
        self, store: Double, registry: StoreRegistry
    ) -> None:
        await registry.announce(wanted(a=[one("x"), one("y"), one("z")]), [A])
        await registry.announce(wanted(a=[one("y")]), [A])
        assert store.deletes == [[key("z"), key("x")]]
        await registry.announce(wanted(), [A])
        assert store.there == {}
        assert not registry._ledger._held
        assert not registry._ledger._of
        assert not registry._ledger._by_id
        assert not registry._echoes

    @bounded
    async def test_only_the_changed_services_are_touched(self, store: Double, registry: StoreRegistry) -> None:
        await registry.announce(wanted(a=[one("x")], b=[one("x")]), [A])
        assert list(store.there) == [key("x")]
        await registry.announce(wanted(), [B])
        assert list(store.there) == [key("x")]

    @bounded
    async def test_a_record_that_went_missing_is_written_again(self, store: Double, registry: StoreRegistry) -> None:
        await registry.announce(wanted(a=[one("x"), one("y")]), [A])
        store.missing = [{key("x"), key("unknown")}]
        assert await registry.renew() == {A: frozenset("x")}
        await registry.announce(wanted(a=[one("x"), one("y")]), [A])
        assert [record.name for record in store.puts[-1]] == ["x"]
        assert await registry.renew() == {}

    @bounded
    async def test_ten_thousand_are_written_in_batches(self, store: Double, registry: StoreRegistry) -> None:
        await registry.announce(wanted(a=[one(str(number)) for number in range(2 * BATCH + 1)]), [A])
        assert [len(batch) for batch in store.puts] == [BATCH, BATCH, 1]
        await registry.announce(wanted(), [A])
        assert [len(batch) for batch in store.deletes] == [BATCH, BATCH, 1]

    @bounded
    async def test_a_layout_may_want_smaller_batches(self, store: Double) -> None:
        class Single(NativeLayout):
            batch = 1

        await StoreRegistry(store, Single()).announce(wanted(a=[one("x"), one("y")]), [A])
        assert [len(batch) for batch in store.puts] == [1, 1]


class TestUncertainty:
    @bounded
    async def test_a_write_of_unknown_outcome_is_deleted_and_deleted_again(
        self, store: Double, registry: StoreRegistry
    ) -> None:
        store.raising["put"] = [Unavailable("no answer")]
        with pytest.raises(Unavailable):
            await registry.announce(wanted(a=[one("x")]), [A])
        assert await registry.announce(wanted(), [A]) == {}
        assert store.deletes == [[key("x")]]
        for _ in range(ECHOES):
            # The write arrives late, behind the delete.
            store.there[key("x")] = NATIVE.record(A, one("x"))
            await registry.renew()
            assert store.there == {}
        await registry.renew()
        assert len(store.deletes) == 1 + ECHOES

    @bounded
    async def test_a_write_that_timed_out_is_bounded_and_held(self, store: Double) -> None:
        registry = StoreRegistry(store, NATIVE, call_timeout=0.02)
        store.gates["put"] = asyncio.Event()
        with pytest.raises(DeadlineExceeded, match="writing"):
            await registry.announce(wanted(a=[one("x")]), [A])
        del store.gates["put"]
        await registry.announce(wanted(), [A])
        assert store.deletes == [[key("x")]]
        assert registry._echoes

    @bounded
    async def test_a_single_unknown_outcome_is_deleted_and_deleted_again(
        self, store: Double, registry: StoreRegistry
    ) -> None:
        store.errors[key("x")] = Unavailable("lost on the way")
        errors = await registry.announce(wanted(a=[one("x"), one("y")]), [A])
        assert errors[A].instance_ids == {"x"}
        store.errors.clear()
        await registry.announce(wanted(a=[one("y")]), [A])
        assert store.deletes == [[key("x")]]
        await registry.renew()
        assert store.deletes == [[key("x")], [key("x")]]
        assert list(store.there) == [key("y")]

    @bounded
    async def test_a_refused_write_needs_no_delete(self, store: Double, registry: StoreRegistry) -> None:
        store.errors[key("x")] = Denied("no")
        await registry.announce(wanted(a=[one("x")]), [A])
        store.errors.clear()
        await registry.announce(wanted(), [A])
        assert not store.deletes

    @bounded
    async def test_a_delete_of_unknown_outcome_is_made_again(self, store: Double, registry: StoreRegistry) -> None:
        await registry.announce(wanted(a=[one("x")]), [A])
        store.raising["delete"] = [Unavailable("no answer")]
        with pytest.raises(Unavailable):
            await registry.announce(wanted(), [A])
        assert await registry.announce(wanted(), [A]) == {}
        assert len(store.deletes) == 2
        assert store.there == {}

    @bounded
    async def test_a_refused_delete_is_told_and_made_again(self, store: Double, registry: StoreRegistry) -> None:
        await registry.announce(wanted(a=[one("x"), one("y")]), [A])
        store.errors[key("x")] = Denied("no")
        errors = await registry.announce(wanted(a=[one("y")]), [A])
        assert errors[A].instance_ids == {"x"}
        store.errors.clear()
        assert await registry.announce(wanted(a=[one("y")]), [A]) == {}
        assert list(store.there) == [key("y")]

    @bounded
    async def test_published_again_it_is_no_echo_any_more(self, store: Double, registry: StoreRegistry) -> None:
        store.raising["put"] = [Unavailable("no answer")]
        with pytest.raises(Unavailable):
            await registry.announce(wanted(a=[one("x")]), [A])
        await registry.announce(wanted(), [A])
        await registry.announce(wanted(a=[one("x")]), [A])
        for _ in range(5):
            await registry.renew()
        assert list(store.there) == [key("x")]
        assert not registry._echoes

    @bounded
    async def test_an_echo_never_meets_a_new_publish(self, store: Double, registry: StoreRegistry) -> None:
        store.raising["put"] = [Unavailable("no answer")]
        with pytest.raises(Unavailable):
            await registry.announce(wanted(a=[one("x")]), [A])
        await registry.announce(wanted(), [A])
        store.gates["delete"] = gate = asyncio.Event()
        renewing = asyncio.create_task(registry.renew())
        await eventually_async(lambda: len(store.deletes) == 2)
        # Published again while the echo is on its way, on a connection that overtakes it.
        publishing = asyncio.create_task(registry.announce(wanted(a=[one("x")]), [A]))
        for _ in range(20):
            await asyncio.sleep(0)
        gate.set()
        assert await publishing == {}
        await renewing
        assert list(store.there) == [key("x")]

    @bounded
    async def test_a_missing_record_told_once_is_not_forgotten(self, store: Double, registry: StoreRegistry) -> None:
        await registry.announce(wanted(a=[one("x")]), [A])
        store.raising["put"] = [Unavailable("no answer")]
        with pytest.raises(Unavailable):
            await registry.announce(wanted(a=[one("x")], b=[one("y")]), [B])
        await registry.announce(wanted(a=[one("x")]), [B])
        store.missing = [{key("x")}]
        store.raising["delete"] = [Unavailable("the echo fails")]
        with pytest.raises(Unavailable):
            await registry.renew()
        assert await registry.renew() == {A: frozenset("x")}

    @bounded
    async def test_a_cancelled_announcement_lets_the_next_one_in(self, store: Double, registry: StoreRegistry) -> None:
        store.gates["put"] = asyncio.Event()
        task = asyncio.create_task(registry.announce(wanted(a=[one("x")]), [A]))
        await eventually_async(lambda: store.puts)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del store.gates["put"]
        assert await registry.announce(wanted(), [A]) == {}
        assert store.deletes == [[key("x")]]


class TestRefusals:
    @bounded
    async def test_one_error_for_several_keys_is_each_ones_own(self, store: Double, registry: StoreRegistry) -> None:
        shared = Denied("no")
        store.errors = {key("x"): shared, key("y", B): shared, key("z", B): shared}
        errors = await registry.announce(wanted(a=[one("x"), one("w")], b=[one("y"), one("z")]), [A, B])
        assert errors[A].instance_ids == {"x"}
        told = {name for error in (errors[B], *errors[B].also) for name in error.instance_ids}
        assert told == {"y", "z"}
        assert shared.instance_ids == frozenset()
        assert list(store.there) == [key("w")]

    @bounded
    async def test_kinds_are_kept_apart(self, store: Double, registry: StoreRegistry) -> None:
        store.errors = {key("x"): Conflict("held"), key("y"): Denied("no")}
        errors = await registry.announce(wanted(a=[one("x"), one("y")]), [A])
        assert {type(error): error.instance_ids for error in (errors[A], *errors[A].also)} == {
            Conflict: {"x"},
            Denied: {"y"},
        }

    @bounded
    async def test_an_instance_that_the_layout_cannot_write_takes_nothing_away(self, store: Double) -> None:
        class Picky(NativeLayout):
            def record(self, service: ServiceKey, instance: Instance) -> Record:
                if instance.weight == 13:
                    raise TypeError("not thirteen")
                return super().record(service, instance)

        registry = StoreRegistry(store, Picky())
        await registry.announce(wanted(a=[one("x"), one("y")]), [A])
        errors = await registry.announce(wanted(a=[one("x", weight=13), one("y", weight=5)]), [A])
        assert isinstance(errors[A], InvalidArgument)
        assert errors[A].instance_ids == {"x"}
        assert store.there[key("x")].value == encode_instance(one("x"))
        assert store.there[key("y")].value == encode_instance(one("y", weight=5))
        assert await registry.announce(wanted(), [A]) == {}
        assert store.there == {}

    @bounded
    async def test_a_store_without_comparison_cannot_take_over(self, store: Double, registry: StoreRegistry) -> None:
        store.errors[key("x")] = Conflict("held")
        errors = await registry.announce(wanted(a=[one("x")]), [A])
        assert isinstance(errors[A], Conflict)
