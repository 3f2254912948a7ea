"""Promises about calls that an outage or the caller cuts short, about starting without the registry, and ending so."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from sofa_registry_adapters.errors import Closed, Unavailable
from sofa_registry_adapters.handles import AsyncRegistration
from sofa_registry_adapters.testing.contract.breaking import Faults
from sofa_registry_adapters.testing.contract.clients import Recorder
from sofa_registry_adapters.testing.contract.kit import (
    ECHO,
    SLACK,
    STEP,
    Registries,
    able,
    gone_for_good,
    needs_an_end_for_the_silent,
    quietly,
    seen,
    takes,
)
from sofa_registry_adapters.testing.contract.outages import MANY, MARK, MINE, SHORT
from sofa_registry_adapters.testing.faults import eventually


class StartingContract:
    """See the module."""

    def test_60_a_publish_that_times_out(self, registries: Registries, faults: Faults | None) -> None:
        """A publish that times out while the registry hangs leaves nothing behind when it answers again."""
        broken = able(faults, "pause", "resume")
        publisher, reader = registries.blocking(), registries.blocking()
        publisher.publish("standing", MINE)
        seen(reader)
        broken.pause()
        try:
            with takes(SHORT, "publish"), pytest.raises(Unavailable):
                publisher.publish(ECHO, MANY, timeout=SHORT)
        finally:
            broken.resume()
        publisher.publish(MARK, MINE, required=False).wait_live(timeout=STEP * 2)
        gone_for_good(reader)
        publisher.publish(ECHO, MANY)
        assert set(seen(reader)) == set(MANY), "the same can be published afterwards"

    def test_60_a_publish_that_is_interrupted(self, registries: Registries, faults: Faults | None) -> None:
        """Ctrl-C in a blocking publish raises KeyboardInterrupt at once and leaves nothing behind."""
        broken = able(faults, "pause", "resume")
        if threading.current_thread() is not threading.main_thread():
            pytest.skip("signals reach the main thread only, and this is another one")
        publisher, reader = registries.blocking(), registries.blocking()
        publisher.publish("standing", MINE)
        seen(reader)
        broken.pause()
        main = threading.get_ident()
        timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            timer.start()
            with takes(0.5, "the interrupted publish"), pytest.raises(KeyboardInterrupt):
                publisher.publish(ECHO, MANY, timeout=STEP * 2)
        finally:
            timer.join()
            signal.signal(signal.SIGINT, before)
            broken.resume()
        publisher.publish(MARK, MINE, required=False).wait_live(timeout=STEP * 2)
        gone_for_good(reader)

    def test_60_a_publish_that_is_cancelled(self, registries: Registries, faults: Faults | None) -> None:
        """A cancelled async publish ends at once and leaves nothing behind, whether it had reached the registry or not."""
        broken = able(faults, "pause", "resume")
        reader = registries.blocking()
        seen(reader)

        async def work() -> None:
            async with registries.coroutine() as publisher:
                await publisher.publish("standing", MINE)
                for delay in (0.0, 0.001, 0.003, 0.01):
                    task = asyncio.create_task(publisher.publish(ECHO, MANY))
                    await asyncio.sleep(delay)
                    await _cancelled(task)
                task = asyncio.create_task(publisher.publish(ECHO, MANY))
                await asyncio.sleep(0)
                time.sleep(0.1)  # noqa: ASYNC251  the answer is there, and this loop has not seen it yet
                await _cancelled(task)
                broken.pause()
                try:
                    task = asyncio.create_task(publisher.publish(ECHO, MANY))
                    await asyncio.sleep(0.3)
                    await _cancelled(task)
                finally:
                    broken.resume()
                mark = await publisher.publish(MARK, MINE, required=False)
                await mark.wait_live(timeout=STEP * 2)
                await asyncio.to_thread(gone_for_good, reader)

        asyncio.run(_bounded(work(), STEP * 5))

    def test_61_publish_before_the_registry_is_there(self, registries: Registries, faults: Faults | None) -> None:
        """With required=False a publish returns at once and becomes live when the registry is there."""
        broken = able(faults, "kill", "start")
        broken.kill()
        try:
            with takes(2.0, "open"):
                publisher = registries.blocking()
                publisher.open()
            with takes(0.1, "publish"):
                registration = publisher.publish(ECHO, MINE, required=False)
            assert registration.state == "pending"
            with pytest.raises(Unavailable):
                registration.wait_live(timeout=SHORT)
            broken.start()
            registration.wait_live(timeout=STEP)
            assert registration.last_error is None
            assert set(seen(registries.blocking())) == {MINE}
        finally:
            broken.start()

    def test_62_subscribe_before_the_registry_is_there(self, registries: Registries, faults: Faults | None) -> None:
        """A subscribe raises Unavailable within its time-out; with required=False its first notice comes later."""
        broken = able(faults, "kill", "start")
        publisher = registries.blocking()
        publisher.publish(ECHO, MINE)
        broken.kill()
        try:
            consumer, refused, waiting = registries.blocking(), Recorder(), Recorder()
            with takes(SHORT, "subscribe"), pytest.raises(Unavailable):
                consumer.subscribe(ECHO, refused, timeout=SHORT)
            with takes(SHORT, "subscribe"):
                consumer.subscribe(ECHO, waiting, required=False, timeout=SHORT)
            assert not waiting.changes
        finally:
            broken.start()
        eventually(lambda: waiting.ids == {MINE}, STEP, "the first notice comes")
        assert not refused.changes, "what was refused stays so"

    def test_63_start_from_the_disk(self, registries: Registries, faults: Faults | None, tmp_path: Path) -> None:
        """Without the registry the last known good comes from the disk, stale and with its age; then it is fresh."""
        broken = able(faults, "kill", "start")
        publisher, folder = registries.blocking(), str(tmp_path / "snapshots")
        publisher.publish(ECHO, MANY)
        with registries.blocking(snapshot=folder) as consumer:
            consumer.subscribe(ECHO, Recorder())
            eventually(lambda: list(_files(tmp_path)), STEP, "the view is saved")
        broken.kill()
        try:
            recorder, late = Recorder(), registries.blocking(snapshot=folder)
            with takes(1.5, "subscribe"):
                late.subscribe(ECHO, recorder, timeout=STEP)
            assert recorder.ids == set(MANY)
            assert recorder.stale
            assert recorder.changes[0].instances.age > 0
            recorder.mark()
            assert late.lookup(ECHO).stale
            other = registries.blocking(snapshot=folder).lookup(ECHO, timeout=SHORT)
            assert other.stale
            assert {one.instance_id for one in other} == set(MANY)
            assert recorder.smallest == len(MANY), "no view was smaller"
        finally:
            broken.start()
        late_reader = registries.blocking()
        eventually(lambda: not recorder.stale, STEP, "it is fresh once the registry is there")
        eventually(lambda: quietly(lambda: len(seen(late_reader))) == len(MANY), STEP, "all are back")
        assert recorder.smallest == len(MANY), "no view was ever smaller"

    def test_64_close_into_the_void(self, registries: Registries, faults: Faults | None) -> None:
        """Close ends within two seconds when nobody answers, and once is enough."""
        broken = able(faults, "black_hole", "heal")
        registry = registries.blocking()
        registry.publish(ECHO, MANY)
        registry.subscribe(ECHO, Recorder())
        broken.black_hole()
        try:
            with takes(2.0, "close"):
                registry.close()
            registry.close()
            with pytest.raises(Closed):
                registry.lookup(ECHO)
            never = registries.blocking()
            never.open()
            with takes(2.0, "close of what was never connected"):
                never.close()
        finally:
            broken.heal()

    def test_64_what_close_leaves_expires(self, registries: Registries, faults: Faults | None) -> None:
        """What a close could not withdraw, because nobody answered, expires."""
        broken = able(faults, "black_hole", "heal")
        needs_an_end_for_the_silent(registries)
        registry, reader = registries.blocking(), registries.blocking()
        registry.publish(ECHO, MANY)
        seen(reader)
        broken.black_hole()
        try:
            registry.close()
        finally:
            broken.heal()
        bound = registries.silent_within + SLACK
        eventually(lambda: quietly(lambda: seen(reader)) == {}, bound, "what it left expires")

    def test_65_nobody_loses_by_closing(self, registries: Registries) -> None:
        """Registries of one process are separate owners: closing one leaves what the others publish."""
        keeping, reader = registries.blocking(), registries.blocking()
        keeping.publish(ECHO, MINE)
        for number in range(3):
            with registries.blocking() as passing:
                passing.publish(ECHO, f"10.0.1.{number}:1")
            assert set(seen(reader)) == {MINE}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


async def _cancelled(task: asyncio.Task[AsyncRegistration]) -> None:
    """Cancel a publish; if it was faster, it is withdrawn."""
    task.cancel()
    done, _ = await asyncio.wait((task,), timeout=1.0)
    assert done, "a cancelled publish goes on"
    if not task.cancelled():
        await task.result().unpublish()


async def _bounded(work: Awaitable[None], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await work
