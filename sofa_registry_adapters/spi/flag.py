"""An event for things of which a process may have thousands."""

from __future__ import annotations

import asyncio


class Flag:
    """What `asyncio.Event` is, on one loop, in a tenth of its 760 bytes: that one has room for waiters before there are any."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: dict[asyncio.Future[None], None] | None = None

    def is_set(self) -> bool:
        """Whether `wait` returns at once."""
        return self._set

    def set(self) -> None:
        """Let everybody go on who waits."""
        self._set = True
        for one in self._waiting or ():
            if not one.done():
                one.set_result(None)

    def clear(self) -> None:
        """Let those wait who come from now on."""
        self._set = False

    async def wait(self) -> None:
        """Until it is set; who waited by then goes on, even if it is cleared in the next moment."""
        if self._set:
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiting is None:
            self._waiting = {}
        self._waiting[mine] = None
        try:
            await mine
        finally:
            del self._waiting[mine]
            self._waiting = self._waiting or None
