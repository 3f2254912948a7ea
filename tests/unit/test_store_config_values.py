"""Configuration on a store: what a record says, values and what is none, stores that will not do."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import msgspec
import pytest
from config_bench import KEY, PLACE, bench
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters.engine.envelope import HEADER_BYTES, Envelope
from sofa_registry_adapters.engine.store_config import NAME, StoreConfig, config_capabilities, record_key
from sofa_registry_adapters.errors import Conflict, CorruptRecord, RegistryError, Unsupported
from sofa_registry_adapters.model.config import ABSENT, ConfigItem, ConfigKey
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Rejected
from sofa_registry_adapters.spi.store import Record, RecordKey, RecordStore


class TestEnvelope:
    @given(
        st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary()),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=400),
        st.integers(1, 2**53),
    )
    def test_what_is_encoded_is_decoded(self, content: str | bytes, kind: str, author: str, serial: int) -> None:
        made = Envelope.of(ConfigDraft(content, kind, author), serial, 1_700_000_000_123)
        value = made.encode()
        assert Envelope.decode(value) == made
        assert len(value) - len(made.data) <= HEADER_BYTES
        item = made.item(KEY)
        assert (item.content, item.content_type, item.updated_at) == (content, kind, 1_700_000_000.123)
        assert type(item.content) is type(content)
        assert item.author == author[:200]
        assert item.revision == f"{serial}-{made.id}"

    def test_the_value_stands_as_it_is(self) -> None:
        value = Envelope.of(ConfigDraft("size: 10\n", "yaml", "ann@host:1"), 3, 5).encode()
        line, _, rest = value.partition(b"\n")
        assert rest == b"size: 10\n"
        header = msgspec.json.decode(line)
        assert header == {
            "v": 1,
            "serial": 3,
            "id": header["id"],
            "text": True,
            "type": "yaml",
            "at": 5,
            "by": "ann@host:1",
        }

    @pytest.mark.parametrize(
        "value",
        (
            b"",
            b"size: 10",
            b"\n",
            b"{}\n",
            b'{"v":0,"serial":1,"id":"0123456789abcdef"}\nx',
            b'{"v":1,"serial":0,"id":"0123456789abcdef"}\nx',
            b'{"v":1,"serial":1,"id":"../../etc/passwd"}\nx',
            b'{"v":1,"serial":1.5,"id":"0123456789abcdef"}\nx',
            b'{"v":1,"serial":1,"id":"0123456789abcdef","text":true}\n\xff',
            b'{"v":1,"serial":1,"id":"0123456789abcdef","by":5}\nx',
            b"[" * 3000 + b"\nx",
            b"{" + b" " * 5000 + b"}\nx",
        ),
    )
    def test_what_is_none_is_corrupt(self, value: bytes) -> None:
        with pytest.raises(CorruptRecord):
            Envelope.decode(value)

    @given(st.binary(max_size=300))
    def test_no_bytes_raise_anything_else(self, value: bytes) -> None:
        for data in (value, b'{"v":1,"serial":1,"id":"0123456789abcdef"' + value):
            try:
                Envelope.decode(data)
            except CorruptRecord:
                continue

    def test_a_later_version_is_read_as_far_as_it_is_known(self) -> None:
        found = Envelope.decode(b'{"v":2,"serial":4,"id":"0123456789abcdef","new":[1],"text":true}\nx')
        assert (found.serial, found.data) == (4, b"x")


class TestValues:
    def test_a_removed_key_leaves_a_mark_and_is_not_listed(self) -> None:
        async def main() -> None:
            async with bench() as made:
                await made.publish("one")
                assert await made.config.keys("orders") == ["pool.yaml"]
                assert await made.config.remove(KEY, None, "me") is True
                entry = made.space.peek(PLACE)
                assert entry is not None
                mark = Envelope.decode(entry.record.value)
                assert (mark.gone, mark.data, mark.author) == (True, b"", "me")
                assert await made.config.get(KEY) is None
                assert await made.config.keys("orders") == []
                assert await made.config.remove(KEY, None, "me") is False

        asyncio.run(main())

    def test_what_somebody_else_put_beside_is_no_key(self) -> None:
        async def main() -> None:
            async with bench() as made:
                await made.publish("one")
                await made.publish("x", ConfigKey("deep", "orders"))
                for path in (
                    ("config", "orders", "%ZZ"),
                    ("config", "orders", "a", "b"),
                    ("config", "orders", "other"),
                ):
                    made.space.write_behind(Record(path, "x", b"x", owned=False))
                assert await made.config.keys("orders") == ["deep", "pool.yaml"]

        asyncio.run(main())

    def test_a_spoiled_value_can_be_replaced_and_removed_but_not_on_condition(self) -> None:
        async def main() -> None:
            async with bench() as made:
                first = await made.publish("one")
                made.space.write_behind(Record(*PLACE, b"spoiled", owned=False))
                for call in (
                    made.config.get(KEY),
                    made.config.publish(KEY, ConfigDraft("x"), first),
                    made.config.publish(KEY, ConfigDraft("x"), ABSENT),
                    made.config.remove(KEY, first),
                ):
                    with pytest.raises(CorruptRecord):
                        await call
                assert await made.config.keys("orders") == ["pool.yaml"]
                assert await made.config.remove(KEY, None) is True
                assert await made.config.get(KEY) is None
                made.space.write_behind(Record(*PLACE, b"spoiled", owned=False))
                await made.publish("two")
                assert await made.contents() == ["two"]

        asyncio.run(main())

    def test_a_watch_says_what_is_there_removed_lost_and_spoiled(self) -> None:
        async def main() -> None:
            async with bench() as made:
                watch = made.config.watch(KEY)
                assert await anext(watch) is ABSENT
                await made.publish("one")
                found = await anext(watch)
                assert isinstance(found, ConfigItem)
                assert found.content == "one"
                await made.config.remove(KEY, None)
                assert await anext(watch) is None
                made.space.write_behind(Record(*PLACE, b"spoiled", owned=False))
                assert isinstance(await anext(watch), Rejected)
                made.space.delete_behind(PLACE)
                assert await anext(watch) is ABSENT
                made.space.write_behind(Record(PLACE.bucket, "beside it", b"x", owned=False))
                await made.publish("two")
                found = await anext(watch)
                assert isinstance(found, ConfigItem)
                assert found.content == "two"
                made.space.wipe()
                assert await anext(watch) is ABSENT
                await watch.aclose()  # type: ignore[attr-defined]

        asyncio.run(main())

    def test_a_conflict_that_is_only_in_the_store_is_tried_again(self) -> None:
        """Where the product says no although the value is still the expected one, it was written by hand in the same way."""

        async def main() -> None:
            async with bench() as made:
                first = await made.publish("one")
                entry = made.space.peek(PLACE)
                assert entry is not None
                looks = iter(range(10))
                read = made.store.read

                async def touched(*arguments: object) -> object:
                    found = await read(*arguments)  # type: ignore[arg-type]
                    if next(looks) == 0:
                        made.space.write_behind(entry.record)
                    return found

                made.store.read = touched  # type: ignore[method-assign, assignment]
                assert await made.config.publish(KEY, ConfigDraft("two"), first) != first

        asyncio.run(main())

    def test_somebody_faster_each_time_ends_in_a_conflict(self) -> None:
        async def main() -> None:
            async with bench() as made:
                await made.publish("one")

                async def never(record: Record, expected: str | None) -> str:
                    raise Conflict("somebody was faster")

                made.store.compare_and_put = never  # type: ignore[method-assign]
                with pytest.raises(Conflict, match="changes faster"):
                    await made.publish("two")
                with pytest.raises(Conflict, match="changes faster"):
                    await made.config.remove(KEY, None)

        asyncio.run(main())


class TestStores:
    def test_one_that_cannot_compare_is_refused(self) -> None:
        class Plain(RecordStore):
            capabilities: ClassVar[Capabilities] = Capabilities(compare_and_set=False)

            async def open(self) -> None: ...
            async def close(self) -> None: ...
            async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
                return {}

            async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
                return {}

            async def renew(self) -> Collection[RecordKey]:
                return ()

            async def read(self, bucket: object, known: object = None) -> None: ...

        with pytest.raises(Unsupported, match="cannot write on condition"):
            StoreConfig(Plain(), SystemClock())

    def test_the_largest_value_leaves_room_for_what_is_said_about_it(self) -> None:
        assert config_capabilities(Capabilities(max_value_bytes=10_000)).max_config_bytes == 10_000 - HEADER_BYTES
        given = config_capabilities(Capabilities(max_value_bytes=10_000, max_config_bytes=8_000))
        assert given.max_config_bytes == 8_000 - HEADER_BYTES

    def test_the_name_in_a_bucket_is_always_the_same(self) -> None:
        assert record_key(ConfigKey("a/b", "g")) == RecordKey(("config", "g", "a%2Fb"), NAME)
