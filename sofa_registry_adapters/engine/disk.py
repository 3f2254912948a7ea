"""The last known good on disk, for a start without the registry or the config center.

One file a service or a configuration key, replaced atomically and checksummed: a reader finds the old one or the new one, whole. Files are
0600 in a folder that is 0700, no symbolic link is followed, and nobody else's file is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.options import Target

VERSION = 1
ABANDONED = 3600.0
"""Seconds after which an unfinished file has no writer any more."""
F = TypeVar("F", bound="Folder")
T = TypeVar("T")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


class Saved(msgspec.Struct):
    """A view as it was saved: when, in milliseconds since 1970, and what was in it."""

    v: int
    service: str
    saved: int
    instances: list[Instance]


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, dict) else str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder(Saved, dec_hook=lambda kind, value: kind(value)).decode


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """What a snapshot says. Raises ValueError and `msgspec.MsgspecError`."""
    try:
        return decode(body)
    except RecursionError:
        raise ValueError("a snapshot is nested too deeply; it is ignored") from None


def default_folder() -> Path:
    """The user's cache folder for snapshots."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sofa-registry"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sofa-registry"


class Folder:
    """The snapshots of one registry, by name. Blocking: call it on a worker thread. Raises OSError and ValueError."""

    def __init__(self, folder: Path, registry: str) -> None:
        self._folder = folder
        self._registry = registry
        self._swept = False

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(f"{self._registry}\n{name}".encode()).hexdigest()
        return self._folder / f"{digest[:40]}.json"

    def write(self, name: str, body: bytes) -> None:
        """Replace what is there under the name."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_folder()
        self._sweep()
        handle, fresh = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            Path(fresh).replace(self._path(name))
        except BaseException:
            with contextlib.suppress(OSError):
                Path(fresh).unlink()
            raise

    def remove(self, name: str) -> None:
        """Remove what is there under the name, if anything is."""
        self._path(name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Once, remove what writers that were killed left behind."""
        if self._swept:
            return
        self._swept = True
        for path in self._folder.glob(".new-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > ABANDONED:
                    path.unlink()

    def read(self, name: str) -> bytes | None:
        """What is there under the name; None if nothing is. What is damaged raises ValueError."""
        path = self._path(name)
        try:
            # Without O_NONBLOCK a pipe laid in the place would hold the reader up.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            self._check_owner(status, path)
            if not stat.S_ISREG(status.st_mode):
                raise PermissionError(f"{path} is not a plain file; it is not used")
            digest, _, body = file.read().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError(f"the snapshot {path} is damaged; it is ignored")
        return body

    def _check_folder(self) -> None:
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise PermissionError(f"{self._folder} is not a folder of its own")
        self._check_owner(status, self._folder)
        if status.st_mode & 0o077:
            self._folder.chmod(0o700)

    @staticmethod
    def _check_owner(status: os.stat_result, path: Path) -> None:
        if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user; it is not used")


class Disk(Folder):
    """The snapshots of services."""

    def save(self, service: ServiceKey, instances: Sequence[Instance], saved: int) -> None:
        """Replace the snapshot of the service."""
        self.write(str(service), _encode(Saved(VERSION, str(service), saved, list(instances))))

    def load(self, service: ServiceKey) -> Saved | None:
        """The snapshot of the service; None if there is none. A damaged one raises ValueError."""
        body = self.read(str(service))
        if body is None:
            return None
        found = decoded(_decode, body)
        if found.v != VERSION or found.service != str(service):
            raise ValueError(f"the snapshot {self._path(str(service))} is of another version or service; it is ignored")
        return found


def disk_of(target: Target, kind: Callable[[Path, str], F]) -> F | None:
    """The folder of snapshots that the target's options ask for; None if there is to be none."""
    folder = target.text("snapshot")
    if folder == "off":
        return None
    registry = f"{target.scheme}://{target.addresses}{target.path}?{target.text('namespace')}&{target.text('layout')}"
    try:
        return kind(Path(folder).expanduser() if folder else default_folder(), registry)
    except RuntimeError:
        # There is no home folder: the registry works without snapshots.
        return None
