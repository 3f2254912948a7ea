"""Times that no calendar has, in what others wrote: they cost neither a list nor a history."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sofa_registry_adapters import ConfigCenter, ConfigKey, Instance, Registry
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.engine.envelope import Envelope
from sofa_registry_adapters.engine.store_config import HISTORY, record_key
from sofa_registry_adapters.errors import CorruptRecord, RegistryError
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Record
from sofa_registry_adapters.testing.faults import eventually

NEVER = 10**17
"""In milliseconds; three million years from now."""


def value(**header: int) -> bytes:
    fields = {"v": 1, "serial": 1, "at": 0, **header}
    return ('{"id":"9f2c4e71a0b3d5e6","text":true,' + f"{fields}"[1:].replace("'", '"') + "\nforeign").encode()


@pytest.mark.parametrize("header", ({"at": 10**400}, {"at": -1}, {"serial": 10**400}, {"serial": 2**63}))
def test_a_number_beyond_all_bounds_is_a_corrupt_value(header: dict[str, int]) -> None:
    with pytest.raises(CorruptRecord):
        Envelope.decode(value(**header))


def test_one_such_value_costs_neither_the_history_nor_the_watch() -> None:
    key = ConfigKey("k")
    with ConfigCenter("memory://never") as center:
        revision = center.publish(key, "ours")
        target = center.target

        async def write(record: Record) -> None:
            store = MemoryStore(target, SystemClock())
            await store.open()
            [answer] = (await store.put([record])).values()
            assert not isinstance(answer, RegistryError)
            await store.close()

        bucket, name = record_key(key)
        asyncio.run(write(Record((HISTORY, *bucket[1:]), f"{7:012d}", value(at=10**400, serial=7), owned=False)))
        assert [one.revision for one in center.history(key)] == [revision]
        with center.watch(key) as changes:
            assert changes.next(5) is not None
            asyncio.run(write(Record(bucket, name, value(at=10**400), owned=False)))
            follower = center._session.engine._mirrors.find(key)  # type: ignore[union-attr]
            eventually(lambda: isinstance(follower.error, CorruptRecord), 5, "it is told as what it is")  # type: ignore[union-attr]
            assert follower.source.shown().text == "ours"  # type: ignore[union-attr]


def test_the_command_line_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"local://{tmp_path}/never.db"
    with Registry(url) as registry:
        registry.publish("echo", ["10.0.0.1:80", Instance(host="10.0.0.2", port=80, started=NEVER)])
        assert main(["lookup", "echo", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "10.0.0.1:80" in shown
    assert "10.0.0.2:80" in shown
    assert "1e+14 s" in shown
