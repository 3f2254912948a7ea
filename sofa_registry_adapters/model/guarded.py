"""State that one thread changes and any thread reads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Guarded:
    """Has the lock of such a state."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state still. Nothing slow and no user code runs inside."""
        # In the child of a fork the thread that held the lock does not exist: it is then free for the taking.
        held = self._lock.acquire(timeout=1.0)
        try:
            yield
        finally:
            if held:
                self._lock.release()
