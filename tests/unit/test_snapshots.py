"""When the last known good is written: what a disk that hangs may cost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from sofa_registry_adapters.engine import snapshots
from sofa_registry_adapters.engine.snapshots import Snapshots
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.faults import eventually_async


def failed(key: str, reason: str) -> None:
    pytest.fail(f"{key}: {reason}")


def test_while_the_disk_hangs_one_change_of_each_key_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SAVE_AFTER", 0.001)
    asyncio.run(change_while_the_disk_hangs())


async def change_while_the_disk_hangs() -> None:
    works: Snapshots[str, int] = Snapshots(lambda _: None, SystemClock(), failed)
    hangs = threading.Event()
    saved: list[tuple[str, int]] = []
    prepared: list[tuple[str, int]] = []

    def change(key: str, number: int) -> None:
        def save() -> None:
            hangs.wait(10)
            saved.append((key, number))

        def prepare() -> Callable[[], None]:
            prepared.append((key, number))
            return save

        works.save_soon(key, prepare)

    change("a", 0)
    await eventually_async(lambda: prepared == [("a", 0)], 5, "the disk is at work")
    before = len(asyncio.all_tasks())
    for number in range(1, 100):
        change("a", number)
        change("b", number)
        await asyncio.sleep(0.002)
    assert prepared == [("a", 0)]
    assert len(asyncio.all_tasks()) <= before + 2
    hangs.set()
    await eventually_async(lambda: len(saved) == 3, 5, "the last ones are saved")
    assert saved == [("a", 0), ("a", 99), ("b", 99)]
    works.stop()
