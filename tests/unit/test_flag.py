"""A flag is an event of asyncio, but small."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from sofa_registry_adapters.spi.flag import Flag


def test_who_waits_goes_on_and_who_comes_later_does_not_wait() -> None:
    async def main() -> None:
        flag = Flag()
        assert not flag.is_set()
        waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        flag.set()
        flag.set()
        assert flag.is_set()
        await flag.wait()
        await asyncio.wait_for(asyncio.gather(*waiting), 5)

    asyncio.run(main())


def test_who_waited_goes_on_even_if_it_is_cleared_at_once() -> None:
    async def main() -> None:
        flag = Flag()
        early = asyncio.create_task(flag.wait())
        await asyncio.sleep(0)
        flag.set()
        flag.clear()
        await asyncio.wait_for(early, 5)
        late = asyncio.create_task(flag.wait())
        await asyncio.sleep(0)
        assert not late.done()
        late.cancel()

    asyncio.run(main())


def test_who_gives_up_is_forgotten() -> None:
    async def main() -> None:
        flag = Flag()
        gone, there = asyncio.create_task(flag.wait()), asyncio.create_task(flag.wait())
        await asyncio.sleep(0)
        gone.cancel()
        flag.set()
        await asyncio.wait_for(there, 5)
        with suppress(asyncio.CancelledError):
            await gone
        assert flag._waiting is None

    asyncio.run(main())


def test_a_thousand_of_them_are_no_matter() -> None:
    assert sys.getsizeof(Flag()) < 100
