"""The threads that blocking listeners are called on: few while they get on, more when one blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from sofa_registry_adapters.engine.reactor import DaemonPool
from sofa_registry_adapters.testing.faults.waiting import eventually


def _blocked(pool: DaemonPool, count: int) -> threading.Event:
    """So many jobs of the pool wait for the event."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def block() -> None:
        begun.release()
        gate.wait(30)

    for _ in range(count):
        pool.run(block)
    for _ in range(count):
        assert begun.acquire(timeout=5)
    return gate


@pytest.mark.parametrize("blocked", (1, 2, 7))
def test_jobs_get_past_those_that_block(blocked: int) -> None:
    pool, done = DaemonPool(cap=8), threading.Semaphore(0)
    gate = _blocked(pool, blocked)
    for _ in range(200):
        pool.run(done.release)
    for _ in range(200):
        assert done.acquire(timeout=5)
    gate.set()
    eventually(lambda: pool._threads == 0)


def test_one_that_blocks_amid_the_others_holds_none_of_them() -> None:
    pool, done, gate = DaemonPool(cap=8), threading.Semaphore(0), threading.Event()
    for number in range(300):
        pool.run((lambda: gate.wait(30) and None) if number % 60 == 7 else done.release)
    for _ in range(295):
        assert done.acquire(timeout=5)
    gate.set()
    eventually(lambda: pool._threads == 0)


def test_while_the_jobs_get_on_a_second_thread_only_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine: a job that has not returned within this time is meant to be one that blocks.
    monkeypatch.setattr("sofa_registry_adapters.engine.reactor.STALLED", 1.0)
    pool, done, workers = DaemonPool(linger=0.01), threading.Semaphore(0), set[int]()

    def job() -> None:
        workers.add(threading.get_ident())
        done.release()

    hold = _blocked(pool, 1)
    for _ in range(1000):
        pool.run(job)
    assert pool._threads == 2
    hold.set()
    for _ in range(1000):
        assert done.acquire(timeout=5)
    assert len(workers) == 1
    eventually(lambda: pool._threads == 0)


def test_a_job_that_raises_ends_no_thread() -> None:
    pool, done = DaemonPool(), threading.Semaphore(0)

    def job() -> None:
        done.release()
        raise SystemExit(3)

    for _ in range(50):
        pool.run(job)
    for _ in range(50):
        assert done.acquire(timeout=5)


class _NoThreads:
    """Threads that cannot be started any more after the first ``left``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        start: Callable[[Any], None] = threading.Thread.start

        def limited(thread: threading.Thread) -> None:
            if thread.name == "sofa-registry-listener":
                if self.left <= 0:
                    raise RuntimeError("can't start new thread")
                self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)


def test_without_a_thread_it_says_so_and_works_again_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, done = DaemonPool(), threading.Semaphore(0)
    limit = _NoThreads(monkeypatch, 0)
    with pytest.raises(RuntimeError, match="start new thread"):
        pool.run(done.release)
    assert pool._threads == 0
    assert not pool._jobs
    limit.left = 1
    pool.run(done.release)
    assert done.acquire(timeout=5)


def test_what_cannot_have_a_second_thread_waits_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, done = DaemonPool(), threading.Semaphore(0)
    _NoThreads(monkeypatch, 1)
    gate = _blocked(pool, 1)
    pool.run(done.release)
    assert not done.acquire(timeout=0.05)
    gate.set()
    assert done.acquire(timeout=5)
