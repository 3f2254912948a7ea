"""Threads for what blocks: the pool, the worker; and waits with a bound."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_thread import engine_threads

from sofa_registry_adapters.engine.reactor import Closing, DaemonPool, bounded, stop_tasks
from sofa_registry_adapters.errors import DeadlineExceeded
from sofa_registry_adapters.spi.worker import Worker
from sofa_registry_adapters.testing.faults import eventually, eventually_async


class TestPool:
    def test_it_has_no_thread_when_idle(self) -> None:
        pool, done = DaemonPool(cap=4, linger=0.05), threading.Semaphore(0)
        assert pool._threads == 0
        for _ in range(20):
            pool.run(done.release)
        for _ in range(20):
            assert done.acquire(timeout=5)
        assert 0 <= pool._threads <= 4
        eventually(lambda: pool._threads == 0 and "sofa-registry-listener" not in engine_threads())

    def test_it_has_as_many_as_there_is_work_and_no_more_than_its_cap(self) -> None:
        pool, gate, running = DaemonPool(cap=3), threading.Event(), threading.Semaphore(0)
        most: list[int] = []

        def work() -> None:
            running.release()
            gate.wait(10)
            most.append(pool._threads)

        for _ in range(10):
            pool.run(work)
        for _ in range(3):
            assert running.acquire(timeout=5)
        assert not running.acquire(blocking=False)
        gate.set()
        eventually(lambda: len(most) == 10)
        assert max(most) == 3

    def test_no_job_is_left_when_a_thread_goes_just_then(self) -> None:
        pool, done = DaemonPool(cap=2, linger=0.0), threading.Semaphore(0)
        for _ in range(500):
            pool.run(done.release)
            assert done.acquire(timeout=5)


class TestWaiting:
    def test_a_bound_says_what_was_being_done(self) -> None:
        async def main() -> None:
            with pytest.raises(DeadlineExceeded, match=r"within 0.01 s while counting sheep"):
                async with bounded(0.01, "counting sheep"):
                    await asyncio.sleep(10)
            with pytest.raises(DeadlineExceeded, match="inner"):
                async with bounded(10, "outer"):
                    raise DeadlineExceeded("inner")
            with pytest.raises(DeadlineExceeded, match="odd"):
                async with bounded(10, "odd"):
                    raise TimeoutError

        asyncio.run(main())

    def test_tasks_are_stopped_even_if_they_swallow_a_cancellation(self) -> None:
        async def main() -> None:
            swallowed: list[int] = []

            async def stubborn() -> None:
                while len(swallowed) < 3:
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        swallowed.append(1)

            task = asyncio.create_task(stubborn())
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await stop_tasks(task, None, asyncio.current_task())
            assert task.done()

        asyncio.run(main())

    def test_an_iterator_is_closed_whatever_ends_it(self) -> None:
        async def main() -> None:
            ended: list[str] = []

            async def numbers() -> AsyncIterator[int]:
                try:
                    yield 1
                    yield 2
                finally:
                    ended.append("closed")

            async with Closing(numbers()) as messages:
                assert await anext(messages) == 1
            assert ended == ["closed"]
            plain: Any = iter(())
            async with Closing(plain) as messages:
                assert messages is plain

        asyncio.run(main())


class TestWorker:
    def test_calls_run_one_after_another_on_a_daemon(self) -> None:
        async def main() -> None:
            worker = Worker("worker-of-a-test")
            assert await worker.run(threading.current_thread) is not threading.current_thread()
            assert (await worker.run(threading.current_thread)).daemon
            with pytest.raises(ZeroDivisionError):
                await worker.run(lambda: 1 // 0)
            order: list[int] = []
            await asyncio.gather(*(worker.run(order.append, number) for number in range(50)))
            assert order == list(range(50))
            worker.stop()
            worker.stop()
            assert await worker.run(lambda: 5) == 5
            worker.stop()

        asyncio.run(main())
        eventually(lambda: "worker-of-a-test" not in [thread.name for thread in threading.enumerate()])

    def test_who_goes_first_does_not_starve_the_others(self) -> None:
        async def main() -> None:
            worker, gate, order = Worker("worker-of-a-test"), threading.Event(), list[str]()
            began = threading.Event()
            busy = asyncio.create_task(worker.run(lambda: (began.set(), gate.wait(10))))
            await eventually_async(began.is_set)
            calls = [worker.run(order.append, "other") for _ in range(3)]
            calls += [worker.run(order.append, "first", first=True) for _ in range(5)]
            tasks = [asyncio.create_task(one) for one in calls]
            await asyncio.sleep(0)
            worker.stop()
            gate.set()
            async with asyncio.timeout(10):
                await asyncio.gather(busy, *tasks)
            assert order == ["first", "other", "first", "other", "first", "other", "first", "first"]

        asyncio.run(main())

    def test_a_result_that_nobody_waits_for_is_dropped(self) -> None:
        gate, began = threading.Event(), threading.Event()
        worker = Worker("worker-of-a-test")

        def slow() -> None:
            began.set()
            gate.wait(10)

        async def main() -> None:
            task = asyncio.create_task(worker.run(slow))
            await eventually_async(began.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        gate.set()
        worker.stop()
        eventually(lambda: "worker-of-a-test" not in [thread.name for thread in threading.enumerate()])
