"""When views are written to disk and read back: off the hot path, a service at most twice a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from sofa_registry_adapters.engine.disk import Disk, Saved, default_folder
from sofa_registry_adapters.engine.mirror import Mirror
from sofa_registry_adapters.engine.reactor import stop_tasks
from sofa_registry_adapters.model.events import Event, SnapshotFailed
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.spi.worker import Worker

SAVE_AFTER = 0.5
"""Seconds in which changes of a service are written to disk once."""


class Snapshots:
    """The disk snapshots of one engine. A disk that fails costs an event, nothing else."""

    def __init__(self, target: Target, clock: Clock, emit: Callable[[Event], None]) -> None:
        self._disk = _disk(target)
        self._clock = clock
        self._emit = emit
        self._worker = Worker("sofa-registry-disk")
        self._saving: dict[ServiceKey, tuple[asyncio.Task[None], Mirror]] = {}

    @property
    def enabled(self) -> bool:
        """Whether views are kept on disk."""
        return self._disk is not None

    def age(self, saved: Saved) -> float:
        """Seconds since a view was saved."""
        return max(0.0, (self._clock.wall_ms() - saved.saved) / 1000)

    async def load(self, service: ServiceKey) -> Saved | None:
        """The last known good view of the service, if there is one."""
        if self._disk is None:
            return None
        try:
            return await self._worker.run(self._disk.load, service)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            self._emit(SnapshotFailed(service, str(error)))
            return None

    def save_soon(self, mirror: Mirror) -> None:
        """The view changed."""
        if self._disk is not None and mirror.service not in self._saving:
            self._saving[mirror.service] = asyncio.create_task(self._save_later(mirror)), mirror

    async def flush(self) -> None:
        """Write what is waiting, now."""
        waiting = list(self._saving.values())
        await stop_tasks(*(task for task, _ in waiting))
        for _, mirror in waiting:
            await self._save(mirror)

    def stop(self) -> None:
        """Let the thread end."""
        self._worker.stop()

    async def _save_later(self, mirror: Mirror) -> None:
        try:
            await asyncio.sleep(SAVE_AFTER)
        finally:
            self._saving.pop(mirror.service, None)
        await self._save(mirror)

    async def _save(self, mirror: Mirror) -> None:
        view = mirror.view()
        if self._disk is None or view.stale:
            return
        try:
            await self._worker.run(self._disk.save, mirror.service, view.settle(), self._clock.wall_ms())
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            self._emit(SnapshotFailed(mirror.service, str(error)))


def _disk(target: Target) -> Disk | None:
    folder = target.text("snapshot")
    if folder == "off":
        return None
    registry = f"{target.scheme}://{target.addresses}{target.path}?{target.text('namespace')}&{target.text('layout')}"
    try:
        return Disk(Path(folder).expanduser() if folder else default_folder(), registry)
    except RuntimeError:
        # There is no home folder: the registry works without snapshots.
        return None
