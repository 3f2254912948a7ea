"""When the last known good is written to disk and read back: off the hot path, a key at most twice a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

from sofa_registry_adapters.engine.reactor import stop_tasks
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.worker import Worker

SAVE_AFTER = 0.5
"""Seconds in which changes of a key are written to disk once."""

FAILURES = (OSError, ValueError, msgspec.MsgspecError, Unavailable)
"""What the disk's thread may raise; the last one where there is none to be had."""

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")
Work = Callable[[], object]
"""What is done on the disk's own thread; it may raise OSError and ValueError."""


class Snapshots(Generic[K, S]):
    """The disk snapshots of one engine. A disk that fails costs a call of ``failed``, nothing else.

    ``load`` reads what was saved of a key, on the disk's own thread; None: nothing is kept on disk.
    """

    def __init__(self, load: Callable[[K], S | None] | None, clock: Clock, failed: Callable[[K, str], None]) -> None:
        self._load = load
        self._clock = clock
        self._failed = failed
        self._worker = Worker("sofa-registry-disk")
        self._saving: dict[K, tuple[asyncio.Task[None], Callable[[], Work | None]]] = {}
        # While a disk hangs, one change of each key waits for it, and not all of them.
        self._disk = asyncio.Lock()

    @property
    def enabled(self) -> bool:
        """Whether anything is kept on disk."""
        return self._load is not None

    def age(self, saved: int) -> float:
        """Seconds since that moment, which is in milliseconds since 1970."""
        return max(0.0, (self._clock.wall_ms() - saved) / 1000)

    async def load(self, key: K) -> S | None:
        """The last known good of the key, if there is one."""
        if self._load is None:
            return None
        try:
            return await self._worker.run(self._load, key)
        except FAILURES as error:
            self._failed(key, str(error))
            return None

    def save_soon(self, key: K, prepare: Callable[[], Work | None]) -> None:
        """The key changed. When it is time, ``prepare`` says, on the loop, how to save it, or None for not at all."""
        if self._load is None:
            return
        task = self._saving[key][0] if key in self._saving else asyncio.create_task(self._save_later(key))
        # What came last is what is true.
        self._saving[key] = task, prepare

    async def flush(self) -> None:
        """Write what is waiting, now."""
        waiting = list(self._saving.items())
        await stop_tasks(*(task for _, (task, _) in waiting))
        for key, (_, prepare) in waiting:
            await self._save(key, prepare)

    def stop(self) -> None:
        """Let the thread end."""
        self._worker.stop()

    async def _save_later(self, key: K) -> None:
        try:
            await asyncio.sleep(SAVE_AFTER)
            await self._disk.acquire()
        finally:
            _, prepare = self._saving.pop(key)
        try:
            await self._save(key, prepare)
        finally:
            self._disk.release()

    async def _save(self, key: K, prepare: Callable[[], Work | None]) -> None:
        work = prepare()
        if work is None:
            return
        try:
            await self._worker.run(work)
        except FAILURES as error:
            self._failed(key, str(error))
