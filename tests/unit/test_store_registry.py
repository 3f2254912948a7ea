"""A registry made of a store and a layout: nothing attempted is forgotten, and nobody is robbed."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import msgspec
import pytest

from sofa_registry_adapters import Instance, Registry, Revision, ServiceKey
from sofa_registry_adapters.backends.memory import BACKEND, Space, space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine.assembly import CHUNK, Assembly
from sofa_registry_adapters.engine.reactor import closing
from sofa_registry_adapters.engine.store_registry import BATCH, ECHOES, StoreRegistry
from sofa_registry_adapters.errors import (
    Conflict,
    CorruptRecord,
    DeadlineExceeded,
    Denied,
    InvalidArgument,
    RegistryError,
    Unavailable,
    Unsupported,
)
from sofa_registry_adapters.layouts.native import NativeLayout, decode_instance, encode_instance
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.layout import Seen, ServiceLayout
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Patch, Snapshot, Wanted
from sofa_registry_adapters.spi.store import (
    Bucket,
    Record,
    RecordKey,
    RecordStore,
    ResumableStore,
    Stored,
    StorePatch,
    StoreSnapshot,
)
from sofa_registry_adapters.testing.faults import eventually_async

A, B = ServiceKey("a"), ServiceKey("b")
NATIVE = NativeLayout()


def one(name: str, **fields: object) -> Instance:
    return Instance(host="h", port=1, instance_id=name, **fields)  # type: ignore[arg-type]


def key(name: str, service: ServiceKey = A) -> RecordKey:
    return NATIVE.record(service, one(name)).key


def wanted(**services: Iterable[Instance]) -> Wanted:
    return Wanted({ServiceKey(name): tuple(several) for name, several in services.items()})


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **given: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(15):
                await test(*args, **given)

        asyncio.run(main())

    return run


class Double(RecordStore):
    """A store that answers as a test says."""

    capabilities = Capabilities()
    lease = 9.0

    def __init__(self) -> None:
        self.there: dict[RecordKey, Record] = {}
        self.puts: list[list[Record]] = []
        self.deletes: list[list[RecordKey]] = []
        self.errors: dict[RecordKey, RegistryError] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.raising: dict[str, list[Exception]] = {}
        self.missing: list[set[RecordKey]] = []

    async def _pass(self, verb: str) -> None:
        if gate := self.gates.get(verb):
            await gate.wait()
        if queue := self.raising.get(verb):
            raise queue.pop(0)

    async def open(self) -> None:
        await self._pass("open")

    async def close(self) -> None:
        await self._pass("close")

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        self.puts.append(list(records))
        await self._pass("put")
        self.there |= {record.key: record for record in records if record.key not in self.errors}
        return {record.key: self.errors.get(record.key, "1") for record in records}

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        self.deletes.append(list(keys))
        await self._pass("delete")
        for gone in keys:
            if gone not in self.errors:
                self.there.pop(gone, None)
        return {gone: self.errors[gone] for gone in keys if gone in self.errors}

    async def renew(self) -> Collection[RecordKey]:
        await self._pass("renew")
        return self.missing.pop(0) if self.missing else ()

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        await self._pass("read")
        records = tuple(Stored(record, "1", "mine") for at, record in self.there.items() if bucket.holds(at))
        return StoreSnapshot(Revision("e", 1), records)

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        await self._pass("watch")
        yield StoreSnapshot(Revision("e", 1))
        await asyncio.Event().wait()


@pytest.fixture
def store() -> Double:
    return Double()


@pytest.fixture
def registry(store: Double) -> StoreRegistry:
    return StoreRegistry(store, NATIVE, call_timeout=5)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def memory(name: str, layout: ServiceLayout = NATIVE) -> StoreRegistry:
    return StoreRegistry(MemoryStore(parse_target(f"memory://{name}", BACKEND), SystemClock()), layout, 5)


def ids(place: Space, service: ServiceKey = A) -> list[str]:
    return sorted(entry.record.name for entry in place._places.read(NATIVE.bucket(service)))


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


class TestIdentity:
    @bounded
    async def test_the_newer_start_takes_over_and_the_older_never_takes_back(self, name: str) -> None:
        old, new = memory(name), memory(name)
        await old.open()
        await new.open()
        older, newer = one("x", started=1, owner="o"), one("x", started=2, owner="n")
        assert await old.announce(wanted(a=[older]), [A]) == {}
        assert await new.announce(wanted(a=[newer]), [A]) == {}
        assert await old.renew() == {A: frozenset("x")}
        for _ in range(5):
            errors = await old.announce(wanted(a=[older]), [A])
            assert isinstance(errors[A], Conflict)
            assert "newer publisher" in str(errors[A])
        assert space(name).peek(key("x")).record.value == encode_instance(newer)  # type: ignore[union-attr]
        assert await new.renew() == {}
        # Withdrawing what is not ours any more takes nothing from the other.
        assert await old.announce(wanted(), [A]) == {}
        for _ in range(ECHOES + 1):
            await old.renew()
        assert ids(space(name)) == ["x"]
        assert await old.announce(wanted(a=[older]), [A]) != {}
        await new.close()
        assert await old.announce(wanted(a=[older]), [A]) == {}
        assert space(name).peek(key("x")).record.value == encode_instance(older)  # type: ignore[union-attr]
        await old.close()

    @bounded
    async def test_of_two_that_started_at_once_one_wins(self, name: str) -> None:
        one_registry, other = memory(name), memory(name)
        await one_registry.open()
        await other.open()
        first = await one_registry.announce(wanted(a=[one("x", started=1, owner="a")]), [A])
        second = await other.announce(wanted(a=[one("x", started=1, owner="b")]), [A])
        third = await one_registry.announce(wanted(a=[one("x", started=1, owner="a", weight=3)]), [A])
        assert (first, second) == ({}, {})
        assert isinstance(third[A], Conflict)

    @bounded
    async def test_the_same_owner_takes_its_own_record_back(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        mine = one("x", started=5, owner="nonce")
        # What an earlier session of this very process left behind.
        space(name).write_behind(NATIVE.record(A, msgspec.structs.replace(mine, weight=1)), owner="dead")
        assert await registry.announce(wanted(a=[mine]), [A]) == {}
        assert space(name).peek(key("x")).record.value == encode_instance(mine)  # type: ignore[union-attr]
        assert await registry.renew() == {}

    @bounded
    async def test_a_record_that_vanished_meanwhile_is_simply_written(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        place = space(name)
        place.write_behind(NATIVE.record(A, one("x", started=9, owner="other")), owner="other")
        read = registry._store.read

        async def vanish(bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
            place.delete_behind(key("x"))
            return await read(bucket, known)

        registry._store.read = vanish  # type: ignore[method-assign]
        assert await registry.announce(wanted(a=[one("x", started=1)]), [A]) == {}

    @bounded
    async def test_who_comes_between_reading_and_writing_is_not_robbed(self, name: str) -> None:
        registry = memory(name)
        await registry.open()
        place = space(name)
        place.write_behind(NATIVE.record(A, one("x", started=1, owner="first")), owner="first")
        read = registry._store.read

        async def cross(bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
            found = await read(bucket, known)
            place.write_behind(NATIVE.record(A, one("x", started=9, owner="newest")), owner="newest")
            return found

        registry._store.read = cross  # type: ignore[method-assign]
        errors = await registry.announce(wanted(a=[one("x", started=5)]), [A])
        # Whoever it is, it was not looked at yet: that is no refusal.
        assert isinstance(errors[A], Unavailable)
        assert place.peek(key("x")).owner == "newest"  # type: ignore[union-attr]
        registry._store.read = read  # type: ignore[method-assign]
        errors = await registry.announce(wanted(a=[one("x", started=5)]), [A])
        assert isinstance(errors[A], Conflict)

    @bounded
    async def test_who_goes_between_reading_and_writing_is_no_refusal(self, name: str) -> None:
        """As a process that was killed, whose lease ends when it is started again."""
        registry = memory(name)
        await registry.open()
        place = space(name)
        place.write_behind(NATIVE.record(A, one("x", started=1, owner="dead")), owner="dead")
        read = registry._store.read

        async def go(bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
            found = await read(bucket, known)
            place.delete_behind(key("x"))
            return found

        registry._store.read = go  # type: ignore[method-assign]
        errors = await registry.announce(wanted(a=[one("x", started=5)]), [A])
        assert isinstance(errors[A], Unavailable)
        assert await registry.announce(wanted(a=[one("x", started=5)]), [A]) == {}

    @bounded
    async def test_a_hundred_takeovers_at_once(self, name: str) -> None:
        old, new = memory(name), memory(name)
        await old.open()
        await new.open()
        await old.announce(wanted(a=[one(str(number), started=1) for number in range(100)]), [A])
        assert await new.announce(wanted(a=[one(str(number), started=2) for number in range(100)]), [A]) == {}
        assert await old.renew() == {A: frozenset(str(number) for number in range(100))}

    def test_a_provider_that_reads_and_publishes_again_is_the_newer_one(self, name: str) -> None:
        with Registry(f"memory://{name}") as first, Registry(f"memory://{name}") as second:
            first.publish("a", Instance(host="h", port=1, started=1))
            second.publish("a", second.lookup("a")[0])
            assert second.lookup("a")[0].instance_id == "h:1"


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
        async with closing(registry.watch(A)) as updates:
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


class TestAssembly:
    @staticmethod
    async def apply(assembly: Assembly, *changed: Stored, removed: Iterable[str] = ()) -> Patch:
        gone = [RecordKey(("services", "a"), name) for name in removed]
        return await assembly.apply(changed, gone, {}, Revision("e", 2))

    @bounded
    async def test_of_two_records_with_one_id_the_later_start_wins(self) -> None:
        assembly = Assembly(Loose(), A)
        records = [stored("1", one("x", started=5)), stored("2", one("x", started=9)), stored("3", one("y"))]
        for order in (records, records[::-1]):
            snapshot = await assembly.reset(order, {}, Revision("e", 1))
            assert sorted((item.instance_id, item.started) for item in snapshot.instances) == [("x", 9), ("y", 0)]

    @bounded
    async def test_the_next_one_steps_in_latest_first(self) -> None:
        assembly = Assembly(Loose(), A)
        await assembly.reset(
            [stored(str(number), one("x", started=number)) for number in range(1, 21)], {}, Revision("e", 1)
        )
        for number in range(20, 1, -1):
            update = await self.apply(assembly, removed=[str(number)])
            assert [item.started for item in update.changed] == [number - 1]
        assert (await self.apply(assembly, removed=["1"])).removed == ("x",)

    @bounded
    async def test_a_shadowed_record_may_change_and_go_unseen(self) -> None:
        assembly = Assembly(Loose(), A)
        await assembly.reset([stored("1", one("x", started=5)), stored("2", one("x", started=9))], {}, Revision("e", 1))
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
        await assembly.reset([stored("1", one("x")), stored("2", one("y"))], {}, Revision("e", 1))
        update = await self.apply(assembly, bad)
        assert (update.changed, update.removed, [item.record for item in update.rejected]) == ((), (), ["1"])
        update = await self.apply(assembly, stored("2", one("y", weight=14)))
        assert (update.changed, update.removed, [item.record for item in update.rejected]) == ((), (), ["2"])
        assert "KeyError" in update.rejected[0].reason
        snapshot = await assembly.reset([bad, stored("2", one("y"))], {}, Revision("e", 3))
        assert {item.instance_id for item in snapshot.instances} == {"x", "y"}
        assert (await self.apply(assembly, removed=["1"])).removed == ("x",)

    @bounded
    async def test_a_record_that_became_another_services_is_gone(self) -> None:
        assembly = Assembly(Loose(), A)
        await assembly.reset([stored("1", one("x"))], {}, Revision("e", 1))
        assert (await self.apply(assembly, stored("1", one("x", weight=13)))).removed == ("x",)
        snapshot = await assembly.reset([stored("1", one("x", weight=13))], {}, Revision("e", 1))
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
        await assembly.reset(records, {}, Revision("e", 1))
        assert turns - before >= 3
        before = turns
        await assembly.apply(records, (), {}, Revision("e", 2))
        assert turns - before >= 3
        counting.cancel()


class Hops(ServiceLayout):
    """A mapping names the buckets in which the instances are."""

    name = "hops"

    def bucket(self, service: ServiceKey) -> Bucket:
        return Bucket(("map", service.segment))

    def record(self, service: ServiceKey, instance: Instance) -> Record:
        return Record(("in", instance.zone), instance.instance_id, encode_instance(instance))

    def sources(self, service: ServiceKey, seen: Seen) -> frozenset[Bucket]:
        home = self.bucket(service)
        if service.name == "circle":
            return frozenset(Bucket(("in", str(number))) for number in range(len(seen) + 20_000))
        return frozenset((home, *(Bucket(("in", at.name)) for at in seen if at.bucket == home.path)))

    def decode(self, service: ServiceKey, stored: Stored, seen: Seen) -> Instance | None:
        return None if stored.record.bucket[0] == "map" else decode_instance(stored.record.value)


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

        async with closing(registry.watch(A)) as updates:
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
        async with closing(registry.watch(A)) as updates:
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
            async with closing(StoreRegistry(store, Hops()).watch(A)) as updates:
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


def test_a_registry_can_do_what_its_store_and_its_layout_can(store: Double) -> None:
    assert StoreRegistry(store, NATIVE).capabilities.announces_withdrawal
    assert not StoreRegistry(store, Hops()).capabilities.announces_withdrawal
    assert StoreRegistry(store, NATIVE).lease == 9.0


@bounded
async def test_opening_and_closing_are_the_stores() -> None:
    store = Double()
    registry = StoreRegistry(store, NATIVE)
    store.raising["open"] = [Denied("no")]
    with pytest.raises(Denied):
        await registry.open()
    await registry.open()
    await registry.close()


class Chronicle(Double, ResumableStore):
    """A store that keeps the history of changes."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: asyncio.Queue[StoreSnapshot | StorePatch] = asyncio.Queue()
        self.began: list[Revision | None] = []

    def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        return self._tell(None)

    def resume(self, bucket: Bucket, since: Revision) -> AsyncIterator[StoreSnapshot | StorePatch]:
        return self._tell(since)

    async def _tell(self, since: Revision | None) -> AsyncIterator[StoreSnapshot | StorePatch]:
        self.began.append(since)
        while True:
            yield await self.messages.get()


def other(name: str, **fields: object) -> Stored:
    return Stored(NATIVE.record(A, one(name, **fields)), "1", "other")


@bounded
async def test_a_watch_is_resumed_from_the_last_message_that_was_folded_in() -> None:
    store = Chronicle()
    registry = StoreRegistry(store, NATIVE, call_timeout=5)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 5), (other("x"), other("y"))))
    async with closing(registry.watch(A)) as updates:
        assert isinstance(await anext(updates), Snapshot)
        store.messages.put_nowait(StorePatch(Revision("e", 7), (other("z"),), (key("x"),)))
        assert isinstance(await anext(updates), Patch)
    store.messages.put_nowait(StorePatch(Revision("e", 9), (other("y", weight=3),)))
    async with closing(registry.watch(A)) as updates:
        update = await anext(updates)
        assert isinstance(update, Patch)
        assert [(each.instance_id, each.weight) for each in update.changed] == [("y", 3)]
    registry.forget(A)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 9)))
    async with closing(registry.watch(A)) as updates:
        await anext(updates)
    assert store.began == [None, Revision("e", 7), None], "whom nobody followed is begun anew"


@bounded
async def test_a_watch_that_is_cut_short_in_a_message_begins_anew() -> None:
    store = Chronicle()
    registry = StoreRegistry(store, NATIVE, call_timeout=5)
    store.messages.put_nowait(StoreSnapshot(Revision("e", 5)))
    async with closing(registry.watch(A)) as updates:
        await anext(updates)
        many = [other(f"{number}") for number in range(CHUNK * 3)]
        store.messages.put_nowait(StorePatch(Revision("e", 6), many))
        folding = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not folding.done()
        folding.cancel()
        await asyncio.wait((folding,))
        assert folding.cancelled()
    store.messages.put_nowait(StoreSnapshot(Revision("e", 6)))
    async with closing(registry.watch(A)) as updates:
        await anext(updates)
    assert store.began == [None, None]
