"""Promises about what the library costs: the engine's loop stays free, forks harm nobody, nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import ClassVar

import pytest

from sofa_registry_adapters.config import ConfigCenter
from sofa_registry_adapters.errors import WrongThread
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.contract.clients import FaceName, Recorder
from sofa_registry_adapters.testing.contract.kit import ECHO, STEP, Registries, reactor_loop
from sofa_registry_adapters.testing.faults import eventually

MANY = 10_000
PROBE = 0.005
"""Seconds between two looks at the engine's loop."""
STALLED = 1.0
"""Seconds that no turn of the loop takes, however busy the machine is."""
ROUNDS = 50
SPARE = 3
"""Threads or files by which two quiet moments may differ."""


class ResourceContract:
    """``lag_seconds``: how long the engine's loop may work at a time; 0.05 on a machine that has nothing else to do."""

    lag_seconds: ClassVar[float] = 0.15

    def test_70_ten_thousand(self, registries: Registries, record_property: Callable[[str, object], None]) -> None:
        """The engine's loop never stops for long while ten thousand instances are published and mirrored."""
        publisher, (consumer, recorder) = registries.blocking(), registries.recorder()
        addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1" for number in range(MANY)]
        probe = _Probe(reactor_loop(consumer))
        began = time.monotonic()
        publisher.publish(ECHO, addresses, timeout=40.0)
        published = time.monotonic()
        eventually(lambda: len(recorder.changes[-1].instances) == MANY, 20.0, "all are mirrored")
        mirrored = time.monotonic()
        assert recorder.replica.keys() == set(addresses)
        record_property("publish seconds", round(published - began, 2))
        record_property("mirror seconds", round(mirrored - published, 2))
        record_property("lag seconds", round(probe.stop(), 4))
        record_property("lag by its own work seconds", round(probe.busy, 4))
        assert probe.busy <= self.lag_seconds, f"the engine's loop worked for {probe.busy:.3f} s without a turn"
        # Waiting for a busy machine is no fault of the loop; waiting in a blocking call would be this long.
        assert probe.worst <= STALLED, f"the engine's loop stopped for {probe.worst:.3f} s"

    @pytest.mark.parametrize(
        "mode", ("fork-exit", "fork-with", "fork-close", "fork-collect", "fork-publish", "fork-afresh")
    )
    def test_71_fork(self, registries: Registries, mode: str) -> None:
        """What a forked child does, and its end, leaves the parent's registration alive; its own is its own, or refused."""
        if not hasattr(os, "fork"):
            not_applicable("this platform has no fork")
        child = registries.child(mode, "10.0.0.1:1")
        child.expect("live", 20.0)
        survives = registries.capabilities.survives_fork
        if mode in {"fork-publish", "fork-afresh"}:
            for words in ("child live", "child gone") if survives else ("child refused",):
                child.expect(words)
        elif mode == "fork-with" and not survives:
            child.expect("child refused")
        child.expect("child ended 0")
        child.expect("parent kept")
        child.expect("parent gone")
        assert child.wait() == 0, child.output
        assert "Traceback" not in child.output

    def test_72_opening_and_closing(self, registries: Registries, face: FaceName) -> None:
        """Fifty registries opened, used and closed leave no thread and no open file."""

        def once() -> None:
            if face == "blocking":
                with registries.fresh(leaving=0.0) as registry:
                    registry.publish(ECHO, "10.0.0.1:1")
                    registry.subscribe(ECHO, Recorder())
                return

            async def work() -> None:
                async with registries.coroutine(leaving=0.0) as registry:
                    await registry.publish(ECHO, "10.0.0.1:1")
                    await registry.subscribe(ECHO, Recorder())

            asyncio.run(work())

        leaves_nothing(once, ROUNDS)

    def test_72_subscribing_and_publishing(self, registries: Registries, face: FaceName) -> None:
        """Fifty subscriptions, watches and registrations that come and go leave no thread and no open file."""
        client = registries.open(face, leaving=0.0)
        numbers = iter(range(10**6))

        def once() -> None:
            number = next(numbers)
            recorder = Recorder()
            subscription = client.subscribe(f"service {number}", recorder)
            watch = client.watch(f"service {number}")
            published = client.publish(f"service {number}", "10.0.0.1:1")
            watch.until(len)
            published.unpublish()
            watch.close()
            subscription.close()

        leaves_nothing(once, ROUNDS)

    def test_73_blocking_verbson_the_engines_thread(self, registries: Registries) -> None:
        """A blocking verb on the engine's own thread raises WrongThread instead of waiting for itself."""
        registry = registries.blocking()
        registration = registry.publish(ECHO, "10.0.0.1:1")
        verbs: dict[str, Callable[[], object]] = {
            "publish": lambda: registry.publish("inside", "10.0.0.1:1"),
            "lookup": lambda: registry.lookup("inside"),
            "subscribe": lambda: registry.subscribe("inside", Recorder()),
            "watch": lambda: registry.watch("inside"),
            "services": registry.services,
            "update": lambda: registration.update(weight=1),
            "unpublish": registration.unpublish,
            "close": registry.close,
        }
        for name, verb in verbs.items():
            assert isinstance(on_the_engines_thread(registry, verb), WrongThread), name
        assert registry.lookup(ECHO)[0].weight == 100, "nothing was done, and it goes on working"
        assert not registry.lookup("inside")
        assert registration.state == "live"


class _Probe:
    """How late the engine's loop is, at worst, and how much of that it was at work itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.worst = 0.0
        self.busy = 0.0
        self._stopped = False
        self._done = asyncio.run_coroutine_threadsafe(self._look(loop), loop)

    async def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped:
            before, worked = loop.time(), time.thread_time()
            await asyncio.sleep(PROBE)
            self.worst = max(self.worst, loop.time() - before - PROBE)
            self.busy = max(self.busy, time.thread_time() - worked)

    def stop(self) -> float:
        """The worst that was seen."""
        self._stopped = True
        self._done.result(STEP)
        return self.worst


def on_the_engines_thread(face: Registry | ConfigCenter, verb: Callable[[], object]) -> object:
    """What the verb raises there."""
    answer: Future[object] = Future()

    def inside() -> None:
        try:
            answer.set_result(verb())
        except Exception as error:  # noqa: BLE001  it is the answer
            answer.set_result(error)

    reactor_loop(face).call_soon_threadsafe(inside)
    return answer.result(STEP)


def leaves_nothing(once: Callable[[], None], rounds: int) -> None:
    """After so many rounds there are as many threads and open files as after a few."""
    for _ in range(5):
        once()
    threads, files = _quiet()
    for _ in range(rounds):
        once()
    eventually(lambda: threading.active_count() <= threads + SPARE, STEP, f"{threads} threads before")
    eventually(lambda: _open_files() <= files + SPARE, STEP, f"{files} files before")


def _quiet() -> tuple[int, int]:
    """Threads and open files once idle threads have gone."""
    counts: list[tuple[int, int]] = []

    def settled() -> bool:
        counts.append((threading.active_count(), _open_files()))
        return len(counts) > 20 and len(set(counts[-20:])) == 1

    eventually(settled, STEP, "threads and files settle", interval=0.03)
    return counts[-1]


def _open_files() -> int:
    gc.collect()
    folder = Path("/proc/self/fd")
    return len(list((folder if folder.exists() else Path("/dev/fd")).iterdir()))
