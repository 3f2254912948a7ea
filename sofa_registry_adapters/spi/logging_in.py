"""User and password for an event loop: what may block to find them never holds it up."""

from __future__ import annotations

import asyncio

from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.options import Login, Target
from sofa_registry_adapters.spi.worker import Worker


async def present_login(target: Target) -> Login:
    """`Target.login` within the call time-out. Raises `Unavailable`."""
    if not target.changeable:
        return target.login()
    # Before whoever waits for the connection gives up, who would not know the reason.
    worker, seconds = Worker("sofa-registry-credentials"), 0.9 * target.number("call_timeout")
    try:
        async with asyncio.timeout(seconds):
            return await worker.run(target.login)
    except TimeoutError:
        raise Unavailable(f"the credentials were not to be had within {seconds:g} s") from None
    finally:
        worker.stop()
