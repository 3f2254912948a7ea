"""Registries that cannot push: the frame for stores of blocking calls, and a withdrawal that consumers who poll are told of."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from sofa_registry_adapters import InstancesChange, Registry
from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine.core import LONGEST_MARK, Times
from sofa_registry_adapters.errors import Closed, Conflict, RegistryError, Unavailable, Unsupported, ValueTooLarge
from sofa_registry_adapters.events import ProtectionStarted
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.blocking import BlockingStore
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Value
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, StoreSnapshot
from sofa_registry_adapters.testing.faults import eventually, eventually_async

POLLED = msgspec.structs.replace(memory.CAPABILITIES, push=False)


class PolledStore(MemoryStore):
    capabilities: ClassVar[Capabilities] = POLLED

    def watch(self, bucket: Bucket) -> Any:
        raise Unsupported("not here")


class Polled:
    @hookimpl
    def sofa_registry_backends(self) -> list[BackendType]:
        defaults = {"snapshot": "off"}
        fields = {"schemes": ("polled",), "capabilities": POLLED, "load": lambda: PolledStore, "defaults": defaults}
        return [msgspec.structs.replace(memory.BACKEND, **fields)]


def polled(url: str, **options: Value) -> Registry:
    return Registry(url, options=options, plugins=[Polled()])


class TestMark:
    @pytest.mark.parametrize(
        ("capabilities", "query", "leaving"),
        (
            (memory.CAPABILITIES, "", 0.2),
            (POLLED, "", 1.1),
            (POLLED, "?poll=50ms", 0.2),
            (POLLED, "?poll=200ms", 0.3),
            (POLLED, "?poll=200ms&leaving=3s", 3.0),
            (POLLED, "?leaving=0", 0.0),
            (POLLED, "?poll=1h", LONGEST_MARK),
        ),
    )
    def test_it_outlasts_a_poll(self, capabilities: Capabilities, query: str, leaving: float) -> None:
        times = Times.of(parse_target(f"memory://{query}", memory.BACKEND), capabilities)
        assert times.leaving == pytest.approx(leaving)

    @pytest.mark.parametrize("leave", ("unpublish", "close"))
    def test_who_polls_sees_the_last_one_leave(self, leave: str) -> None:
        """With the defaults: nothing is held, since nothing vanished unsaid."""
        url, holds, seen = f"polled://{uuid.uuid4().hex}", [], []
        with polled(url, protection_hold=60) as consumer, polled(url) as provider:
            consumer.events.on(ProtectionStarted, holds.append)

            def listener(change: InstancesChange) -> None:
                seen.append((len(change.instances), time.monotonic()))

            registration = provider.publish("a", "h:1")
            consumer.subscribe("a", listener)
            began = time.monotonic()
            registration.unpublish() if leave == "unpublish" else provider.close()
            eventually(lambda: seen[-1][0] == 0, 2.0, "the consumer knows")
            assert seen[-1][1] - began < 1.5
            assert time.monotonic() - began < 2.5
            assert not holds


class Shelf(BlockingStore):
    """Records in a dict; `broken` is what each call raises."""

    capabilities: ClassVar[Capabilities] = Capabilities(push=False, max_value_bytes=10)
    failures: ClassVar = (OSError, KeyError)

    def __init__(self) -> None:
        super().__init__("the shelf")
        self.records: dict[RecordKey, Stored] = {}
        self.broken: Exception | None = None
        self.counter = itertools.count()
        self.calls: list[str] = []
        self.gate = threading.Event()

    def _work(self) -> None:
        if self.broken is not None:
            raise self.broken

    def connect(self) -> None:
        self._work()

    def disconnect(self) -> None:
        self._work()

    def write(self, record: Record) -> str:
        self._work()
        if record.name == "taken":
            raise Conflict("it is taken")
        self.records[record.key] = Stored(record, f"{next(self.counter)}", "mine" if record.owned else "none")
        return self.records[record.key].revision

    def remove(self, key: RecordKey) -> None:
        self._work()
        if key.name == "nailed":
            raise Conflict("it is nailed down")
        self.records.pop(key, None)

    def keep_alive(self) -> Collection[RecordKey]:
        self._work()
        return ()

    def load(self, bucket: Bucket, known: Revision | None) -> StoreSnapshot | None:
        self._work()
        if known is not None:
            return None
        return StoreSnapshot(Revision(), [one for one in self.records.values() if bucket.holds(one.key)])


def on_a_shelf(test: Callable[[Shelf], Any]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            shelf = Shelf()
            await shelf.open()
            async with asyncio.timeout(10):
                await test(shelf)
                await shelf.close()

        asyncio.run(main())

    return run


PLACE = ("a", "b")
KEY = RecordKey(PLACE, "x")


class TestBlockingStore:
    def test_answers_come_record_by_record(self) -> None:
        @on_a_shelf
        async def run(shelf: Shelf) -> None:
            names = {"x": b"1", "taken": b"1", "big": b"12345678901", "y": b"1234567890"}
            answers = await shelf.put([Record(PLACE, name, value) for name, value in names.items()])
            kinds = [type(answers[RecordKey(PLACE, name)]) for name in names]
            assert kinds == [str, Conflict, ValueTooLarge, str]
            assert "11 bytes, at most 10" in str(answers[RecordKey(PLACE, "big")])
            refused = await shelf.delete([KEY, RecordKey(PLACE, "nailed"), RecordKey(PLACE, "absent")])
            assert {key.name: type(error) for key, error in refused.items()} == {"nailed": Conflict}
            assert [key.name for key in shelf.records] == ["y"]

        run()

    def test_what_writes_many_at_once_gets_batches(self) -> None:
        class Bulk(Shelf):
            batch: ClassVar[int] = 4
            sizes: ClassVar[list[int]] = []

            def write_all(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
                self.sizes.append(len(records))
                return super().write_all(records)

            def remove_all(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
                self.sizes.append(-len(keys))
                return super().remove_all(keys)

        async def run() -> None:
            shelf, keys = Bulk(), [RecordKey(PLACE, f"{number}") for number in range(10)]
            with pytest.raises(Closed):
                await shelf.put([])
            await shelf.open()
            records = [Record(key.bucket, key.name, b"too large for it" if key.name == "5" else b"") for key in keys]
            answers = await shelf.put(records)
            assert answers.keys() == set(keys)
            assert isinstance(answers[keys[5]], ValueTooLarge)
            assert shelf.records.keys() == set(keys) - {keys[5]}
            assert await shelf.delete([*keys, RecordKey(PLACE, "nailed")]) != {}
            assert not shelf.records
            assert shelf.sizes == [4, 4, 1, -4, -4, -3]
            await shelf.close()

        asyncio.run(run())

    def test_neither_a_long_put_nor_reads_that_wait_keep_it_from_living(self) -> None:
        """A renewal has a third of the lease: a put of a thousand records used to take that, and reads in a row."""

        class Slow(Shelf):
            def write(self, record: Record) -> str:
                self.calls.append("write")
                self.gate.wait(10)
                return super().write(record)

            def load(self, bucket: Bucket, known: Revision | None) -> StoreSnapshot | None:
                self.calls.append("load")
                return super().load(bucket, known)

            def keep_alive(self) -> Collection[RecordKey]:
                self.calls.append("alive")
                return super().keep_alive()

        async def run() -> None:
            shelf = Slow()
            await shelf.open()
            names = [f"{number}" for number in range(3 * shelf.batch)]
            put = asyncio.create_task(shelf.put([Record(PLACE, name, b"") for name in names]))
            await eventually_async(lambda: shelf.calls == ["write"])
            reads = [asyncio.create_task(shelf.read(Bucket(PLACE))) for _ in range(5)]
            await asyncio.sleep(0)
            renewal = asyncio.create_task(shelf.renew())
            await asyncio.sleep(0)
            shelf.gate.set()
            await asyncio.gather(put, renewal, *reads)
            assert shelf.calls.index("alive") == shelf.batch
            assert shelf.calls.index("load") == shelf.batch + 1
            assert shelf.calls.count("write") == len(names)
            await shelf.close()

        asyncio.run(run())

    @pytest.mark.parametrize("error", (OSError("no paper"), KeyError("lost")))
    def test_a_failure_is_unavailable_and_says_where(self, error: Exception) -> None:
        @on_a_shelf
        async def run(shelf: Shelf) -> None:
            shelf.broken = error
            verbs: list[Callable[[], Any]] = [
                lambda: shelf.put([Record(PLACE, "x", b"")]),
                lambda: shelf.delete([KEY]),
                shelf.renew,
                lambda: shelf.read(Bucket(PLACE)),
                lambda: shelf.buckets(()),
            ]
            for verb in verbs:
                with pytest.raises(Unavailable, match="the shelf cannot be used") as caught:
                    await verb()
                assert caught.value.__cause__ is error
            await shelf.close()
            with pytest.raises(Unavailable):
                await shelf.open()
            with pytest.raises(Closed, match="the shelf"):
                await shelf.renew()
            shelf.broken = None
            await shelf.open()
            assert not await shelf.renew()

        run()

    def test_what_is_no_failure_of_the_product_is_a_defect(self) -> None:
        @on_a_shelf
        async def run(shelf: Shelf) -> None:
            shelf.broken = ZeroDivisionError("a defect")
            with pytest.raises(ZeroDivisionError):
                await shelf.renew()
            shelf.broken = None

        run()

    def test_the_names_with_an_underscore_are_the_stores(self) -> None:
        """`_opened` was one of the frame's own, and a store that had a method of that name could not be opened."""
        public = {name for line in BlockingStore.__mro__[1:] for name in vars(line)}
        taken = {name for name in (vars(BlockingStore) | vars(Shelf())).keys() - public if name.startswith("_")}
        assert {name for name in taken if not name.startswith(("__", "_BlockingStore__", "_abc_"))} == set()

        class Named(Shelf):
            def _refuse(self) -> None:
                raise AssertionError("the frame called a private method of the store")

            _opened = _place = _worker = _run = _translated = _written = _removed = _refuse

        async def run() -> None:
            shelf = Named()
            await shelf.open()
            await shelf.put([Record(PLACE, "x", b"")])
            assert await shelf.buckets(()) == ["a"]
            assert await shelf.delete([KEY]) == {}
            await shelf.close()

        asyncio.run(run())

    def test_a_closed_one_says_so(self) -> None:
        @on_a_shelf
        async def run(shelf: Shelf) -> None:
            await asyncio.gather(shelf.close(), shelf.close())
            with pytest.raises(Closed):
                await shelf.read(Bucket(PLACE))

        run()

    def test_it_lists_by_reading(self) -> None:
        @on_a_shelf
        async def run(shelf: Shelf) -> None:
            await shelf.put([Record(path, "x", b"") for path in (("a",), ("a", "b"), ("a", "b", "c"), ("b",))])
            assert await shelf.buckets(()) == ["a", "b"]
            assert await shelf.buckets(("a",)) == ["b"]
            assert await shelf.buckets(("c",)) == []
            shelf.capabilities = Capabilities(list_services=False)  # type: ignore[misc]
            with pytest.raises(Unsupported):
                await shelf.buckets(())

        run()

    def test_a_known_revision_is_offered(self) -> None:
        @on_a_shelf
        async def run(shelf: Shelf) -> None:
            assert await shelf.read(Bucket(PLACE), Revision("e", 1)) is None

        run()

    def test_it_does_not_watch(self) -> None:
        with pytest.raises(Unsupported):
            Shelf().watch(Bucket(PLACE))
