"""State that one thread changes and any thread reads."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager


class _Hold:
    """One holding of a lock. A class of its own, because a generator would cost more than what is done under the lock."""

    __slots__ = ("_held", "_lock")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._held = False

    def __enter__(self) -> None:
        # In the child of a fork the thread that held the lock does not exist: it is then free for the taking.
        self._held = self._lock.acquire(timeout=1.0)

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._lock.release()


class Guarded:
    """Has the lock of such a state."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def locked(self) -> AbstractContextManager[None]:
        """Hold the state still. Nothing slow and no user code runs inside."""
        return _Hold(self._lock)
