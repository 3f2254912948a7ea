"""Whether the registry, or the config center, can be reached, said once for each incident."""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.model.events import BackendLost, BackendRestored, Event
from sofa_registry_adapters.spi.clock import Clock


class Link:
    """One warning and one event when the registry is lost, one of each when it is back."""

    def __init__(self, backend: str, clock: Clock, emit: Callable[[Event], None], *, what: str = "registry") -> None:
        self.error: BaseException | None = None
        self.backend = backend
        self._clock = clock
        self._emit = emit
        self._what = what
        self._since: float | None = None
        self._proven = clock.monotonic()

    @property
    def up(self) -> bool:
        """Whether the last exchange was answered."""
        return self._since is None

    def lost(self, error: BaseException) -> None:
        """An exchange failed because the registry could not be reached."""
        self.error = error
        if self._since is None:
            self._since = self._clock.monotonic()
            logger.warning("the %s %s is lost, the last known good is served: %s", self._what, self.backend, error)
            self._emit(BackendLost(self.backend, str(error)))

    def proven(self) -> float:
        """When the registry was last known to be there, on the clock."""
        return self._proven

    def restored(self) -> None:
        """An exchange was answered."""
        self._proven = self._clock.monotonic()
        if self._since is not None:
            seconds = self._clock.monotonic() - self._since
            self._since = None
            logger.warning("the %s %s answers again after %.1f s", self._what, self.backend, seconds)
            self._emit(BackendRestored(self.backend, seconds))
