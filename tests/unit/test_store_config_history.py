"""Configuration on a store: a history that has every value, whoever dies when."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Mapping, Sequence

import pytest
from config_bench import KEY, PLACE, FailingStore, bench

from sofa_registry_adapters.engine.envelope import Envelope
from sofa_registry_adapters.engine.store_config import KEPT, StoreConfig
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.model.config import ABSENT, ConfigItem
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.spi.store import Record, RecordKey


class TestHistory:
    @pytest.mark.parametrize("seed", range(8))
    def test_every_value_that_ever_was_current_is_there(self, seed: int) -> None:
        """Writers fail before or after any step, and go on; what was current before is the next in the history."""
        draw = random.Random(seed)

        async def main() -> None:
            async with bench() as made:
                made.store.fails = lambda: draw.choice(("", "", "", "before", "after"))
                current: list[str] = []
                for number in range(120):
                    content = f"{number}"
                    try:
                        if draw.random() < 0.2:
                            await made.config.remove(KEY, None, "me")
                        else:
                            await made.publish(content)
                    except Unavailable:
                        pass
                    entry = made.space.peek(PLACE)
                    found = None if entry is None else Envelope.decode(entry.record.value)
                    if found is not None and not found.gone and found.data.decode() not in current:
                        current.append(found.data.decode())
                made.store.fails = lambda: ""
                assert len(current) > 25
                history = await made.contents()
                assert history[:20] == current[::-1][:20]
                assert len(history) == len(set(history))

        asyncio.run(main())

    def test_it_is_as_long_as_it_has_to_be_and_not_much_longer(self) -> None:
        async def main() -> None:
            async with bench() as made:
                for number in range(100):
                    await made.publish(str(number))
                assert len(made.archived()) == KEPT
                assert await made.contents() == [str(number) for number in range(99, 99 - KEPT - 1, -1)]

        asyncio.run(main())

    def test_what_dead_writers_left_is_swept_by_the_next(self) -> None:
        async def main() -> None:
            async with bench() as made:
                for number in range(50):
                    how = iter(("", "", "before") if number % 4 else ("", "", ""))
                    made.store.fails = lambda how=how: next(how, "")  # type: ignore[misc]
                    try:
                        await made.publish(str(number))
                    except Unavailable:
                        made.store.fails = lambda: ""
                        await made.publish(f"{number} again")
                assert len(made.archived()) <= KEPT + 4

        asyncio.run(main())

    def test_a_value_without_a_record_goes_on_where_the_history_ends(self) -> None:
        async def main() -> None:
            async with bench() as made:
                for number in range(3):
                    await made.publish(str(number))
                made.space.delete_behind(PLACE)
                assert await made.config.get(KEY) is ABSENT
                revision = await made.publish("back")
                assert revision.startswith("3-")
                assert await made.contents() == ["back", "1", "0"]

        asyncio.run(main())

    def test_what_cannot_be_decoded_is_left_out_of_it(self) -> None:
        async def main() -> None:
            async with bench() as made:
                for number in range(3):
                    await made.publish(str(number))
                bucket = ("config-history", "orders", "pool.yaml")
                made.space.write_behind(Record(bucket, f"{1:012d}", b"spoiled", owned=False))
                made.space.write_behind(Record(bucket, "by hand", b"spoiled", owned=False))
                assert await made.contents() == ["2", "1"]

        asyncio.run(main())

    def test_a_history_that_may_not_be_written_refuses_the_value(self) -> None:
        class Guarded(FailingStore):
            async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
                return {record.key: Denied("not you") for record in records}

        async def main() -> None:
            store = Guarded(uuid.uuid4().hex)
            config = StoreConfig(store, SystemClock())
            await config.open()
            await config.publish(KEY, ConfigDraft("one"), None)
            with pytest.raises(Denied):
                await config.publish(KEY, ConfigDraft("two"), None)
            found = await config.get(KEY)
            assert isinstance(found, ConfigItem)
            assert found.content == "one"
            await config.close()

        asyncio.run(main())
