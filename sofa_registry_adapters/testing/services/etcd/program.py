"""The program etcd, built with Go from the modules that etcd publishes, in a folder of the user: once a minute's work."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CURRENT = "3.6.16"
"""The version that the tests use beside the one that is installed."""
_VERSION = re.compile(r"3\.[0-9]+\.[0-9]+")
_SECONDS = 900.0
_SHOWN = 600
_MODULE = "go.etcd.io/etcd/server/v3"
_MAIN = f"""\
package main

import (
	"os"

	"{_MODULE}/etcdmain"
)

func main() {{ etcdmain.Main(os.Args) }}
"""


class BuildFailed(Exception):
    """There is no such program, and none could be built; the text says why."""


def folder() -> Path:
    """Where programs are kept; it may be deleted at any time."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache, "sofa-registry-testing")


def program(version: str) -> Path:
    """Where the program of this version is, once it is built."""
    return folder() / f"etcd-{version}" / "etcd"


def build(version: str) -> Path:
    """The program of this version; builds it if this is the first time.

    Raises:
        BuildFailed: Go is missing, there is no such version, or the module proxy did not give it.
    """
    if not _VERSION.fullmatch(version):
        raise BuildFailed(f"{version!r} is no version of etcd: name one such as {CURRENT}")
    place = program(version)
    if place.is_file():
        return place
    if shutil.which("go") is None:
        raise BuildFailed(f"no go on the PATH to build etcd {version} with")
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with _alone(folder()):
            if not place.is_file():
                _build(version, place.parent)
    except OSError as error:
        raise BuildFailed(f"etcd {version} cannot be kept in {folder()}: {error}") from error
    return place


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process of this machine at a time; the others wait."""
    with (place / ".lock-etcd").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(version: str, place: Path) -> None:
    """Fill a folder beside `place`, which gets its name when it is complete."""
    partial = place.parent / f"{place.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "main.go").write_text(_MAIN)
    for command in (
        ("go", "mod", "init", "etcd"),
        ("go", "get", f"{_MODULE}@v{version}"),
        ("go", "build", "-trimpath", "-ldflags=-s -w", "-o", "etcd", "."),
    ):
        _run(command, partial, version)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)


def _run(command: tuple[str, ...], directory: Path, version: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"go was not done with etcd {version} in {_SECONDS:g} s") from error
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise BuildFailed(f"{' '.join(command[:2])} failed on etcd {version}: {said[-_SHOWN:]}")
