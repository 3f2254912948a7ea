"""A registry made of a store and a layout: nobody is robbed of an id."""

from __future__ import annotations

import msgspec
from store_double import NATIVE, A, bounded, key, memory, name, one, wanted

from sofa_registry_adapters import Instance, Registry, Revision, ServiceKey
from sofa_registry_adapters.backends.memory import Space, space
from sofa_registry_adapters.engine.store_registry import ECHOES
from sofa_registry_adapters.errors import (
    Conflict,
    Unavailable,
)
from sofa_registry_adapters.layouts.native import encode_instance
from sofa_registry_adapters.spi.store import (
    Bucket,
    StoreSnapshot,
)

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name"]


def ids(place: Space, service: ServiceKey = A) -> list[str]:
    return sorted(entry.record.name for entry in place._places.read(NATIVE.bucket(service)))


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
