"""The way to etcd's servers, while nobody is there: those who want a connection share their attempts."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

import pytest

from sofa_registry_adapters.backends.etcd.connecting import Connector
from sofa_registry_adapters.backends.etcd.link import PAUSES, Link
from sofa_registry_adapters.backends.grpc_loading import Channels
from sofa_registry_adapters.errors import Unavailable

SECONDS = 2.0


class Refusing:
    """Nobody is there until ``until``."""

    alone = True
    identified = False
    call_timeout = 1.0

    def __init__(self, until: float = float("inf")) -> None:
        self.attempts: list[float] = []
        self._until = until

    async def connect(self) -> Any:
        now = asyncio.get_running_loop().time()
        self.attempts.append(now)
        if now < self._until:
            raise Unavailable("nobody is there")
        return _Open()

    def skip(self) -> None:
        """There is one server only."""


class _Open:
    where = "here"

    async def close(self) -> None:
        """Nothing was opened."""


async def _want(link: Link, until: float) -> None:
    while asyncio.get_running_loop().time() < until:
        try:
            await link.connection()
        except Unavailable:
            await asyncio.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("many", (1, 50))
def test_attempts_do_not_grow_with_those_who_wait(many: int) -> None:
    async def run() -> list[float]:
        connector, loop = Refusing(), asyncio.get_running_loop()
        link = Link(cast("Connector", connector))
        end = loop.time() + SECONDS
        await asyncio.gather(*(_want(link, end) for _ in range(many)))
        await link.close()
        return connector.attempts

    attempts = asyncio.run(run())
    gaps = [after - before for before, after in itertools.pairwise(attempts)]
    assert 3 <= len(attempts) <= 9
    assert all(gap >= PAUSES[min(place, len(PAUSES) - 1)] * 0.49 for place, gap in enumerate(gaps)), gaps


def test_who_waits_has_the_connection_when_somebody_is_there() -> None:
    async def run() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        there = loop.time() + 0.5
        connector = Refusing(there)
        link = Link(cast("Connector", connector))
        await asyncio.gather(*(_want(link, there + SECONDS) for _ in range(50)))
        took, attempts = loop.time() - there, len(connector.attempts)
        await link.close()
        return took, attempts

    took, attempts = asyncio.run(run())
    assert took < PAUSES[-1] + 0.3
    assert attempts <= 6


def test_grpc_does_not_end_between_two_connections() -> None:
    """It would set itself up again for the next one, and abort the process if there is no file descriptor left for that."""

    async def run() -> list[int]:
        link = Link(cast("Connector", Refusing(0.0)))
        before, held = Channels.open, []
        for _ in range(3):
            link.drop(await link.connection(), Unavailable("cut"))
            held.append(Channels.open - before)
        await link.close()
        return [*held, Channels.open - before]

    assert asyncio.run(run()) == [1, 1, 1, 0]
