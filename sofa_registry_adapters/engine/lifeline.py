"""The connection to a backend: opened, proven again and again, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from sofa_registry_adapters.engine.defects import defect
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.reactor import bounded, stop_tasks
from sofa_registry_adapters.engine.retry import REACHABILITY, REFUSAL
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Capabilities

GLANCE = 0.05
"""Seconds between two looks at whether waiting has become pointless."""

MOST_OFTEN = 0.01
"""Seconds between two heartbeats at least, whatever a backend declares."""


class Connectable(Protocol):
    """What every backend can do."""

    @property
    def capabilities(self) -> Capabilities: ...
    async def open(self) -> None: ...
    async def renew(self) -> Any: ...
    async def lost(self) -> None: ...


class Lifeline:
    """Connects, for ever; then renews, for ever.

    ``lease`` says how long the backend's owner lives without `renew`, in seconds; 0: it has nothing to lose. ``ready`` is set
    once the backend is open. ``renewed`` gets what each renewal answered, ``doubted`` is called when one failed.
    """

    def __init__(
        self,
        backend: Connectable,
        name: str,
        call_timeout: float,
        clock: Clock,
        link: Link,
        *,
        lease: Callable[[], float] = lambda: 0.0,
        ready: asyncio.Event | None = None,
    ) -> None:
        self.error: RegistryError | None = None
        """Why the backend cannot be opened, if that is more than that it cannot be reached."""
        self.ready: asyncio.Event = ready or asyncio.Event()
        self.failed: asyncio.Event = asyncio.Event()
        """Set while the last attempt to connect was in vain."""
        self.link = link
        self.name = name
        self.renewed: Callable[[Any], None] = lambda _: None
        self.doubted: Callable[[], None] = lambda: None
        self._backend = backend
        self._call_timeout = call_timeout
        self._clock = clock
        self._lease = lease
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect; does not wait for it."""
        self._task = asyncio.create_task(self._connect())

    async def stop(self) -> None:
        """Connect and renew no more."""
        await stop_tasks(self._task)

    async def wait_ready(self, timeout: float, of: float = 0.0) -> None:
        """Until the backend is open. Raises why it cannot be, or `Unavailable` after ``timeout`` seconds.

        ``of``: the time-out that these seconds are the rest of, for the message.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self.ready.is_set():
                    if self.error is not None:
                        raise self.error
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(GLANCE):
                            await self.ready.wait()
        except TimeoutError:
            cause = self.link.error
            why = cause or "the first attempt to connect has no answer yet"
            raise Unavailable(f"{self.name} cannot be reached within {of or timeout:g} s: {why}") from cause

    async def _connect(self) -> None:
        attempts, refused = 0, False
        while True:
            known = False
            try:
                async with bounded(self._call_timeout, "connecting"):
                    await self._backend.open()
            except RegistryError as error:
                self.link.lost(error)
                known = not isinstance(error, Unavailable)
                self.error = error if known else None
            except Exception as error:  # noqa: BLE001  a backend's bug must not end the attempts
                self.error, known = defect(self.name, "connecting", error), True
                self.link.lost(self.error)
            else:
                break
            self.failed.set()
            # A server that is just starting may refuse at first: how long it was away does not make that pause longer.
            attempts, refused = attempts + 1 if known == refused else 1, known
            await self._clock.sleep((REFUSAL if known else REACHABILITY).delay(attempts))
        self.error = None
        self.failed.clear()
        self.link.restored()
        self.ready.set()
        await self._renew()

    async def _renew(self) -> None:
        """The heartbeat, and the proof that what was published is still there."""
        lease, within = self._lease(), self._backend.capabilities.detects_loss_within
        interval = max(MOST_OFTEN, min(lease / 3 if lease else within, within / 2))
        bound = min(self._call_timeout, max(lease / 3, 0.5)) if lease else self._call_timeout
        failures = 0
        while True:
            await (self._clock.sleep(REACHABILITY.delay(failures)) if failures else self._pause(interval))
            try:
                async with bounded(bound, "renewing"):
                    answer = await self._backend.renew()
                self.link.restored()
                self.renewed(answer)
            except RegistryError as error:
                failures += 1
                self._doubt(error)
            except Exception as error:  # noqa: BLE001  a backend's bug must not end the heartbeat
                failures += 1
                self._doubt(defect(self.name, "renewing", error))
            else:
                failures = 0

    async def _pause(self, interval: float) -> None:
        """Until the next heartbeat is due, or the backend knows that something is lost."""
        await self._clock.sleep(min(REACHABILITY.first, interval))
        due = asyncio.create_task(self._clock.sleep(max(0.0, interval - REACHABILITY.first)))
        lost = asyncio.create_task(self._backend.lost())
        try:
            await asyncio.wait((due, lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop_tasks(due, lost)

    def _doubt(self, error: Exception) -> None:
        self.link.lost(error)
        self.doubted()
