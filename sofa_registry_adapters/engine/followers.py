"""Everything that one engine follows: one follower a key, however many listeners it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from sofa_registry_adapters.engine.follower import Follower, stop_all
from sofa_registry_adapters.engine.lifeline import GLANCE, Lifeline
from sofa_registry_adapters.engine.mailbox import Pending
from sofa_registry_adapters.engine.reactor import stop_tasks
from sofa_registry_adapters.errors import BackendDefect, Closed, Refused, RegistryError, Unavailable

K = TypeVar("K", bound=Hashable)
F = TypeVar("F", bound=Follower[Any])
SNAPSHOT_GRACE = 0.3
"""Seconds that a first answer from the backend gets, if it can be reached at all, before the one on disk is served."""


class Followers(Generic[K, F]):
    """Lives on the engine's loop; `find` may be called on any thread.

    ``make`` makes the follower of a key. ``preload`` gives it what is on disk, None where nothing is kept there;
    ``forgotten`` is told of a key that nobody follows any more.
    """

    def __init__(
        self,
        lifeline: Lifeline,
        make: Callable[[K], F],
        preload: Callable[[F], Awaitable[None]] | None,
        forgotten: Callable[[K], None] = lambda _: None,
    ) -> None:
        self._lifeline = lifeline
        self._make = make
        self._preload = preload
        self._forgotten = forgotten
        self._by_key: dict[K, F] = {}
        self._side: dict[asyncio.Task[Any], F] = {}
        self._closing = False

    def __iter__(self) -> Iterator[F]:
        return iter(tuple(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key) + len(self._side)

    def find(self, key: K) -> F | None:
        """The follower of the key, if it is followed."""
        return self._by_key.get(key)

    async def attach(self, key: K, timeout: float, *, required: bool) -> Pending[Any]:
        """Follow the key; its first value is there, or, unless ``required``, comes later. Raises `Closed` after `close_mailboxes`."""
        if self._closing:
            # Nobody would end the loop of a mailbox that is opened now.
            raise Closed(f"{self._lifeline.name} was closed: make a new one")
        follower = self._by_key.get(key)
        if follower is None:
            follower = self._begin(key)
        mailbox = follower.open_mailbox(self._forget_soon(key, follower))
        follower.mailboxes.append(mailbox)
        try:
            if required or self._preload is not None:
                await self.first(follower, timeout if required else min(timeout, SNAPSHOT_GRACE * 2))
        except BaseException as error:
            if not required and isinstance(error, RegistryError):
                return mailbox
            mailbox.close()
            raise
        return mailbox

    async def first(self, follower: F, timeout: float) -> None:
        """Until something is known. Raises what the backend said instead, or `Unavailable`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not follower.known.is_set():
            left = start + timeout - loop.time()
            error = follower.error if isinstance(follower.error, Refused | BackendDefect) else self._lifeline.error
            # What the backend refuses may still be on disk, which has had its time by then.
            if error is not None and loop.time() - start > SNAPSHOT_GRACE * 2:
                raise error
            if left <= 0:
                cause = follower.error or self._lifeline.link.error
                raise Unavailable(
                    f"nothing is known of {follower.about} after {timeout:g} s: {self._lifeline.name} gave no answer"
                    + (f" ({cause})" if cause else "")
                ) from cause
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, GLANCE)):
                    await follower.known.wait()

    def cut(self) -> None:
        """The connection is in doubt: open every watch again."""
        for follower in self:
            follower.cut()

    def close_mailboxes(self) -> None:
        """The end is near: nobody is told of anything any more."""
        self._closing = True
        for follower in self:
            for mailbox in tuple(follower.mailboxes):
                mailbox.close()

    async def stop(self) -> None:
        """Follow nothing any more."""
        # All at once: one by one, thousands take longer than a close may.
        ending = (*self, *self._side.values())
        await stop_all(lambda: [task for follower in ending for task in follower.ending()])
        if self._side:
            await asyncio.wait(tuple(self._side))

    def _begin(self, key: K) -> F:
        follower = self._make(key)
        follower.proven = self._lifeline.link.proven
        self._by_key[key] = follower
        follower.starting = asyncio.create_task(self._start(follower))
        return follower

    async def _start(self, follower: F) -> None:
        """Follow as soon as the backend is there; what is on disk is served only if that takes a moment, or cannot be."""
        preloading = asyncio.create_task(self._preload_late(follower))
        try:
            await self._lifeline.ready.wait()
            follower.start()
            await preloading
        finally:
            await stop_tasks(preloading)
            follower.starting = None

    async def _preload_late(self, follower: F) -> None:
        if self._preload is None:
            return
        failed = asyncio.create_task(follower.failed.wait())
        known = asyncio.create_task(follower.known.wait())
        away = asyncio.create_task(self._lifeline.failed.wait())
        try:
            await asyncio.wait((failed, known, away), timeout=SNAPSHOT_GRACE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop_tasks(failed, known, away)
        if not follower.known.is_set():
            await self._preload(follower)

    def _forget_soon(self, key: K, follower: F) -> Callable[[Pending[Any]], None]:
        loop = asyncio.get_running_loop()

        def forget(mailbox: Pending[Any]) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._detach, key, follower, mailbox)

        return forget

    def _detach(self, key: K, follower: F, mailbox: Pending[Any]) -> None:
        if mailbox in follower.mailboxes:
            follower.mailboxes.remove(mailbox)
        if follower.mailboxes or self._by_key.get(key) is not follower or self._closing:
            return
        del self._by_key[key]
        self._forgotten(key)
        self._aside(follower)

    def _aside(self, follower: F) -> None:
        task = asyncio.create_task(follower.stop())
        self._side[task] = follower
        task.add_done_callback(self._side.pop)
