"""Owners: who is alive. An owner holds a record lock on a file of its own; the kernel drops it with the process.

A record lock is also lost when its own process closes any descriptor of the file. So a lock file is
opened once by its owner, and never by another store of the same process: those ask `Process.has_owner`.
``flock`` would not do: a forked child of a dead owner keeps it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sofa_registry_adapters.backends.local.place import file_error, file_errors
from sofa_registry_adapters.backends.local.process import Process
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.clock import Clock

if sys.platform != "win32":
    import fcntl

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OPENING = "opening"
_STRAY = 60.0
"""Seconds after which a lock file that nobody holds and no row names is removed."""
_RETRY = 0.01


class Owner(NamedTuple):
    """A row of the table of owners. ``expires`` is in seconds of `Clock.boot`, of the boot named ``boot``."""

    id: str
    boot: str
    expires: float


def boot_id() -> str:
    """Tells this run of the machine from earlier ones; empty where the system has no such name."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def claim(folder: Path, process: Process) -> str:
    """Make a new owner and hold its lock until `release`."""
    owner = uuid.uuid4().hex
    path = folder / owner
    with file_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
    process.add_owner(owner, descriptor)
    return owner


def release(folder: Path, owner: str, process: Process) -> None:
    """Let everybody see that an owner of this process is gone. Never raises; may be called twice."""
    descriptor = process.drop_owner(owner)
    if descriptor is not None:
        remove(folder, owner)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def remove(folder: Path, owner: str) -> None:
    """Remove the lock file of an owner that is gone."""
    with contextlib.suppress(OSError):
        (folder / owner).unlink()


def is_held(folder: Path, owner: str) -> bool:
    """Whether another process holds the lock of ``owner``. Disturbs nobody. Never for an owner of this process."""
    try:
        descriptor = os.open(f"{folder}/{owner}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        # Unknown: the lease will tell.
        return True
    try:
        return _is_locked(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    # struct flock: fcntl has F_GETLK, but not the layout, which differs.
    if sys.platform == "darwin":
        question = struct.pack("qqihh", 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
        return bool(struct.unpack("qqihh", answer)[3] != fcntl.F_UNLCK)
    question = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
    return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)


def remove_strays(folder: Path, known: frozenset[str], process: Process) -> None:
    """Remove lock files that dead owners left behind."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == _OPENING or entry.name in known or process.has_owner(entry.name):
                continue
            # A new owner has a file before it has a lock, and a lock before it has a row.
            aged = time.time() - entry.stat(follow_symlinks=False).st_mtime > _STRAY
            if aged and not is_held(folder, entry.name):
                remove(folder, entry.name)


@contextlib.contextmanager
def opening(folder: Path, process: Process, patience: float) -> Iterator[None]:
    """Be the only one, on this machine, who opens or makes the database file. Raises `Unavailable`."""
    deadline = time.monotonic() + patience
    if not process.opening.acquire(timeout=patience):
        raise Unavailable(f"{folder} is being opened by another thread for more than {patience:g} s")
    try:
        path = folder / _OPENING
        with file_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, path, deadline)
            yield
        finally:
            os.close(descriptor)
    finally:
        process.opening.release()


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"{path} is locked by a process that is opening the database") from error
        except OSError as error:
            raise file_error(error, path) from error
        else:
            return
        time.sleep(_RETRY)


class Vigil:
    """Tells which owners are dead: those without a lock, of an earlier boot, or past their lease.

    After this process itself was held up, or the machine slept, nobody's lease counts for a while:
    the others may have slept as long, and need a moment to renew.
    """

    def __init__(self, clock: Clock, lease: float, process: Process) -> None:
        self.boot: str = boot_id()
        self.folder: Path = Path()
        self._clock = clock
        self._lease = lease
        self._process = process
        self._seen = clock.boot()
        self._lenient_until = 0.0

    def touch(self) -> None:
        """Note that this process runs."""
        now = self._clock.boot()
        if now - self._seen > self._lease / 2:
            self._lenient_until = now + self._lease / 2
        self._seen = now

    def expiry(self) -> float:
        """When a lease that is renewed now is over."""
        return self._clock.boot() + self._lease

    def is_over(self, owner: Owner) -> bool:
        """Whether the lease is over, or the owner is of an earlier boot."""
        # Not every process is shown the name of the boot: a container, or a service without /proc/sys, is not.
        if owner.boot and self.boot and owner.boot != self.boot:
            return True
        now = self._clock.boot()
        return owner.expires < now and now >= self._lenient_until

    def is_gone(self, owner: Owner) -> bool:
        """Whether the process of the owner has ended, or its store was closed."""
        return not self._process.has_owner(owner.id) and not is_held(self.folder, owner.id)

    def is_dead(self, owner: Owner) -> bool:
        """Whether the owner's records have to go."""
        return self.is_over(owner) or self.is_gone(owner)
