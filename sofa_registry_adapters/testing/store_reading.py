"""Promise 5 of `RecordStore`: what a bucket holds, which names are its own, which bytes it carries."""

from __future__ import annotations

from collections.abc import Awaitable

from sofa_registry_adapters.errors import ValueTooLarge
from sofa_registry_adapters.model.names import encode_segment
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, RecordStore
from sofa_registry_adapters.testing.store_kit import (
    HERE,
    Stores,
    bounded,
    contents,
    erase,
    holds,
    key,
    record,
    snapshot,
    values,
    write,
)

HARD_NAMES = (
    "..",
    ".hidden",
    "...",
    "%",
    "%2F",
    "a%b",
    "a/b",
    "a b",
    "a:b",
    "a*b?[c]{d}",
    "A",
    "a",
    "0",
    "_-.",
    "日本語",
    "x" * 255,
    "😀" * 255,
)
"""Names of services and instances; a store gets them as the native layout writes them."""


class ReadingContract:
    """See the module."""

    @bounded
    async def test_5_a_bucket_that_does_not_exist_is_empty(self, stores: Stores) -> None:
        store = await stores.open()
        for deep in (False, True):
            for path in (("no", "such", "bucket"), ("no",)):
                assert not (await snapshot(store, Bucket(path, deep=deep))).records

    @bounded
    async def test_5_an_emptied_bucket_is_empty(self, stores: Stores) -> None:
        store = await stores.open()
        for _ in range(2):
            await write(store, record("a"), record("b", owned=False))
            assert set(await contents(store, HERE)) == {key("a"), key("b")}
            await erase(store, key("a"), key("b"))
            assert await contents(store, HERE) == {}

    @bounded
    async def test_5_a_known_revision_hides_no_change(self, stores: Stores) -> None:
        store, writer = await stores.open(), await stores.open()
        await _differs_after(store, write(writer, record("a", b"1")))
        await _differs_after(store, write(writer, record("a", b"2")))
        await _differs_after(store, write(writer, record("b", owned=False)))
        await _differs_after(store, write(store, record("c")))
        await _differs_after(store, write(writer, record("d")))
        await _differs_after(store, erase(writer, key("a")))
        await _differs_after(store, _leave(writer, store, {key("b"), key("c")}))
        await _differs_after(store, erase(store, key("b"), key("c")))
        await _differs_after(store, write(store, record("c")))

    @bounded
    async def test_5_a_known_revision_of_an_unchanged_bucket(self, stores: Stores) -> None:
        store, other = await stores.open(), await stores.open()
        await write(store, record("a"))
        first = await snapshot(store, HERE)
        again = await store.read(HERE, first.revision)
        assert again is None or again.records == first.records
        # The elsewhere of this bucket is not its business; a store may not know that, and reads again.
        await write(other, Record(("services", "other"), "a", b""))
        again = await store.read(HERE, first.revision)
        assert again is None or again.records == first.records

    @bounded
    async def test_5_revisions_go_up(self, stores: Stores) -> None:
        store, writer = await stores.open(), await stores.open()
        # A bucket may begin an epoch when it comes to be.
        await write(writer, record("a"))
        before = (await snapshot(store, HERE)).revision
        for number in range(5):
            await write(writer, record("a", b"%d" % number))
            after = (await snapshot(store, HERE)).revision
            assert after.epoch == before.epoch
            assert after.counter > before.counter
            before = after

    @bounded
    async def test_5_a_bucket_has_nothing_of_its_neighbours(self, stores: Stores) -> None:
        store = await stores.open()
        paths = (
            ("foo",),
            ("foobar",),
            ("foo", "bar"),
            ("foo", "bar", "baz"),
            ("fo",),
            ("foo.",),
            ("foo%2F",),
        )
        await write(store, *(Record(path, "1", "/".join(path).encode()) for path in paths))
        for path in paths:
            assert await _found(store, Bucket(path)) == {"/".join(path)}
        assert await _found(store, Bucket(("foo",), deep=True)) == {"foo", "foo/bar", "foo/bar/baz"}
        assert await _found(store, Bucket(("foo", "bar"), deep=True)) == {"foo/bar", "foo/bar/baz"}
        assert await _found(store, Bucket(("fo",), deep=True)) == {"fo"}

    @bounded
    async def test_5_a_place_between_is_no_record(self, stores: Stores) -> None:
        store = await stores.open()
        await write(store, Record(("a", "b", "c"), "1", b"", owned=False))
        for path in (("a",), ("a", "b")):
            assert await contents(store, Bucket(path)) == {}

    @bounded
    async def test_hard_names_of_records(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        records = [record(encode_segment(name, ":"), name.encode()) for name in HARD_NAMES]
        await write(store, *records)
        assert await values(reader, HERE) == {one.key: one.value for one in records}
        await write(store, *records)
        for one in records:
            await erase(store, one.key)
        assert await contents(reader, HERE) == {}

    @bounded
    async def test_hard_names_of_buckets(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        records = [Record(("root", encode_segment(name, ":")), "1", name.encode()) for name in HARD_NAMES]
        await write(store, *records)
        for one in records:
            assert await values(reader, Bucket(one.bucket)) == {one.key: one.value}
        assert await values(reader, Bucket(("root",), deep=True)) == {one.key: one.value for one in records}

    @bounded
    async def test_values_are_any_bytes(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        some = {"empty": b"", "zero": b"\0", "all": bytes(range(256)), "line": b"\r\n", "bad": b"\xff\xfe"}
        equals = await stores.follow(reader, HERE)
        for owned in (True, False):
            records = [record(f"{name}-{owned}", value, owned=owned) for name, value in some.items()]
            await write(store, *records)
            assert {one.key: one.value for one in records}.items() <= (await values(reader, HERE)).items()
        await equals()

    @bounded
    async def test_values_as_large_as_declared(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        most = store.capabilities.max_value_bytes
        equals = await stores.follow(reader, HERE)
        await write(store, record("large", b"x" * most), record("small"))
        assert {name: len(value) for name, value in (await values(reader, HERE)).items()} == {
            key("large"): most,
            key("small"): 1,
        }
        await equals()

    @bounded
    async def test_values_too_large_harm_nothing(self, stores: Stores) -> None:
        store, reader = await stores.open(), await stores.open()
        equals = await stores.follow(store, HERE)
        await write(store, record("a"))
        for surplus in (1, 4_000_000):
            big = b"x" * (store.capabilities.max_value_bytes + surplus)
            answers = await store.put([record("a", big), record("b", big)])
            assert {type(answer) for answer in answers.values()} == {ValueTooLarge}
        await write(store, record("c"))
        assert await values(reader, HERE) == {key("a"): b"1", key("c"): b"1"}
        assert not await store.renew(), "the owner and its records are unharmed"
        await equals()


async def _differs_after(store: RecordStore, change: Awaitable[object]) -> None:
    """A read that knows the revision before the change shows the change."""
    before = await snapshot(store, HERE)
    await change
    expected = await contents(store, HERE)
    after = await store.read(HERE, before.revision)
    assert after is not None, "read says that nothing changed"
    assert {stored.key for stored in after.records} == set(expected)
    assert after.revision != before.revision


async def _leave(leaver: RecordStore, store: RecordStore, left: set[RecordKey]) -> None:
    await leaver.close()
    await holds(store, left)


async def _found(store: RecordStore, bucket: Bucket) -> set[str]:
    return {value.decode() for value in (await values(store, bucket)).values()}
