"""Where the database file is, and whether this process may trust and use it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from sofa_registry_adapters.errors import Denied, Refused, RegistryError, Unavailable, Unsupported

_FILE = Path("sofa-registry", "registry.db")
_DENIED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP))
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_BESIDE = ("-wal", "-shm", "-journal")

Identity = tuple[int, int]
"""Device and inode: another file under the same name has another one."""


class Place:
    """The database file of one store. Nothing is touched before `prepare`."""

    def __init__(self, path: str) -> None:
        self._given = path
        self.path: Path = Path()
        self.owners: Path = Path()

    def prepare(self) -> None:
        """Find the file, and make its folder and that of the lock files. Raises `Denied` and others."""
        if sys.platform == "win32":
            raise Unsupported(
                "local:// needs POSIX record locks, which Windows does not have: "
                "use memory:// for one process, or a server such as redis://"
            )
        named = Path(self._given).absolute() if self._given else _default()
        with file_errors(named.parent):
            _make_folder(named.parent)
        _check_owner(named)
        self.path = named.resolve()
        for suffix in ("", *_BESIDE):
            _check_owner(self.path.with_name(self.path.name + suffix))
        _check_access(self.path)
        self.owners = self.path.with_name(f"{self.path.name}.owners")
        self.prepare_owners()

    def prepare_owners(self) -> None:
        """Make the folder of the lock files, 0700, where it is missing."""
        with file_errors(self.owners), contextlib.suppress(FileExistsError):
            self.owners.mkdir(0o700)
        _check_owner(self.owners)
        if not stat.S_ISDIR(os.lstat(self.owners).st_mode):
            raise Denied(f"{self.owners} is not a folder, but lock files have to lie there: move it away")

    def create(self) -> None:
        """Make the file, empty and 0600, where it is missing; the caller is the only one who does so."""
        if os.path.lexists(self.path):
            return
        with file_errors(self.path):
            # What a deleted database left behind would be taken for a part of the new one.
            for suffix in _BESIDE:
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))

    def identity(self) -> Identity | None:
        """Which file is there now; None if there is none."""
        try:
            found = os.stat(self.path)  # noqa: PTH116  asked forty times a second
        except OSError:
            return None
        return found.st_dev, found.st_ino


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Raise errors of this library, which name the path, instead of OSError."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise file_error(error, path) from error


def file_error(error: OSError, path: Path) -> RegistryError:
    """What an error of the file system means to the user."""
    named = error.filename or path
    if error.errno in _DENIED:
        return Denied(f"{named} cannot be used: {error.strerror}. {_ADVICE}")
    if error.errno in _FULL:
        return Refused(f"the disk of {named} is full: nothing was written. Make room on it")
    return Unavailable(f"{named} cannot be used: {error.strerror}")


_ADVICE = "Give a file of your own, as local:///path/registry.db, or set XDG_STATE_HOME"


def _default() -> Path:
    try:
        home = Path.home()
    except RuntimeError as error:
        raise Denied(f"this user has no home folder: {error}. {_ADVICE}") from error
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / _FILE
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification wants a relative path to be ignored.
    return (Path(state) if Path(state).is_absolute() else home / ".local" / "state") / _FILE


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)


def _check_owner(path: Path) -> None:
    """Refuse what somebody else may have planted for us to find."""
    try:
        found = os.lstat(path)
    except OSError:
        return
    writable_by_all = os.lstat(path.parent).st_mode & stat.S_IWOTH
    if writable_by_all and found.st_uid != os.geteuid():
        raise Denied(
            f"{path} belongs to another user (id {found.st_uid}) in a folder that everybody can write to: "
            f"it is not trusted. {_ADVICE}"
        )


def _check_access(path: Path) -> None:
    if path.is_dir():
        raise Denied(f"{path} is a folder: name a file in it, as local://{path}/registry.db")
    if path.exists() and not path.is_file():
        raise Denied(f"{path} is not a regular file. {_ADVICE}")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise Denied(f"{path} cannot be read and written by this user. {_ADVICE}")
    if not os.access(path.parent, os.R_OK | os.W_OK | os.X_OK):
        raise Denied(f"the folder {path.parent} cannot be written to by this user. {_ADVICE}")
