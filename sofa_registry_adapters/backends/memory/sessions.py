"""Who is in a space: owners with their leases, and watches with the messages that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sofa_registry_adapters.backends.memory.places import Entry
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.store import Bucket, RecordKey, Stored, StorePatch

MAX_PENDING = 256
"""Messages that wait for a watch; beyond them it gets a fresh snapshot instead."""


class Session:
    """One owner in a space, from `RecordStore.open` to `RecordStore.close`."""

    def __init__(self, owner: str, clock: Clock, lease: float) -> None:
        self.owner = owner
        self.held: set[RecordKey] = set()
        self.lost: set[RecordKey] = set()
        self._clock = clock
        self._lease = lease
        self.touch()

    def touch(self) -> None:
        """Begin the lease anew."""
        self._until = self._clock.monotonic() + self._lease

    @property
    def over(self) -> bool:
        """Whether the lease ran out."""
        return self._clock.monotonic() > self._until


class Feed:
    """The messages for one watch. ``wake`` is called, from any thread, when there is something to take."""

    def __init__(self, session: Session, bucket: Bucket, wake: Callable[[], None]) -> None:
        self.session = session
        self.bucket = bucket
        self.wake = wake
        self.messages: deque[StorePatch] = deque()
        self.stale: bool = True
        self.cut: RegistryError | None = None

    def deliver(self, patch: StorePatch) -> None:
        """Add a message; a snapshot that is yet to be taken has it already."""
        if self.stale:
            return
        if len(self.messages) >= MAX_PENDING:
            self.refresh()
            return
        self.messages.append(patch)
        self.wake()

    def refresh(self) -> None:
        """Let the next message be a snapshot."""
        self.messages.clear()
        self.stale = True
        self.wake()


def stored(entry: Entry, viewer: str) -> Stored:
    """A record as ``viewer`` sees it."""
    if entry.owner is None:
        return Stored(entry.record, entry.revision, "none")
    return Stored(entry.record, entry.revision, "mine" if entry.owner == viewer else "other")
