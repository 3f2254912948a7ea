"""The thread for calls that block: what nobody waits for any more takes no room, and takes nothing from the others."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading

from sofa_registry_adapters.spi.worker import Worker
from sofa_registry_adapters.testing.faults import eventually_async

NAME = "sofa-registry a worker"


def gone() -> bool:
    return all(thread.name != NAME for thread in threading.enumerate())


def test_calls_that_were_given_up_do_not_wait_behind_one_that_hangs() -> None:
    async def test() -> None:
        worker, hangs = Worker(NAME), threading.Event()
        hanging = asyncio.create_task(worker.run(hangs.wait, 10))
        await asyncio.sleep(0.02)
        begun: list[int] = []
        given_up = [asyncio.create_task(worker.run(begun.append, one, first=bool(one % 2))) for one in range(100)]
        kept = asyncio.create_task(worker.run(begun.append, -1))
        await asyncio.sleep(0)
        for one in given_up:
            one.cancel()
        await asyncio.wait(given_up)
        assert len(worker._calls._first) + len(worker._calls._others) == 1
        hangs.set()
        await asyncio.gather(hanging, kept)
        assert begun == [-1]
        worker.stop()
        await eventually_async(gone, 5, "its thread ends")

    asyncio.run(test())


def test_giving_up_at_any_moment_loses_no_other_call() -> None:
    async def give_up(worker: Worker, *, first: bool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.random() * 0.002):
                await worker.run(lambda: None, first=first)

    async def test() -> None:
        worker = Worker(NAME)
        async with asyncio.timeout(30):
            for number in range(300):
                several = [give_up(worker, first=bool(one % 2)) for one in range(10)]
                answer, *_ = await asyncio.gather(worker.run(lambda: 7, first=bool(number % 2)), *several)
                assert answer == 7
        worker.stop()
        await eventually_async(gone, 5, "its thread ends")

    asyncio.run(test())
