"""Tests of coroutines, which end in time and leave no task behind."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from sofa_registry_adapters.testing.faults import eventually_async


def within(seconds: float) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Make a test of a coroutine that has to end in time, and to leave no task."""

    def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: object, **kwargs: object) -> None:
            async def main() -> None:
                async with asyncio.timeout(seconds):
                    await test(*args, **kwargs)
                await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")

            asyncio.run(main())

        return run

    return bounded
