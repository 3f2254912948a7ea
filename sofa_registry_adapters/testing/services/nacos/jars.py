"""The jars of a Nacos server, from Maven Central, in a folder of the user: once a minute's work, then nothing.

Nacos itself publishes no server there. What is fetched are builds of the same sources that others have published: good for
tests, not for production.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sofa_registry_adapters.testing.services.product import java_program

MAIN = "NacosServer"
_SOURCES = Path(__file__).parent
_FETCH_SECONDS = 900.0
_SHOWN = 600
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of Nacos: a version of it on Maven Central, and how it is asked whether it is ready."""

    number: int
    version: str
    group: str
    artifacts: tuple[str, ...]
    ready: str
    has_accounts: bool


LINES = {
    2: Line(
        number=2,
        version="2.2.4",
        group="io.springboot.nacos",
        artifacts=("nacos-naming", "nacos-config"),
        ready="/nacos/v2/ns/operator/metrics",
        has_accounts=False,
    ),
    3: Line(
        number=3,
        version="3.1.0-bugfix",
        group="io.github.pig-mesh.nacos",
        artifacts=("nacos-server",),
        ready="/nacos/v3/admin/core/state/readiness",
        has_accounts=True,
    ),
}


class FetchFailed(Exception):
    """The jars are not here and could not be fetched; the text says why."""


def folder() -> Path:
    """Where the jars are kept; it may be deleted at any time."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache, "sofa-registry-testing")


def class_path(line: Line) -> str:
    """The class path of a server of this line; fetches what it names, if this is the first time.

    Raises:
        FetchFailed: a program that is needed for it is missing, or Maven Central did not give the jars.
    """
    place = folder() / f"nacos-{line.version}"
    if not place.is_dir():
        _provide(line, place)
    # Two of the jars have the same classes; the server needs those of this one.
    first = next((place / "jars").glob("hessian-4*.jar"))
    return f"{place / 'main'}:{first}:{place / 'jars'}/*"


def _provide(line: Line, place: Path) -> None:
    missing = [name for name, path in (("mvn", shutil.which("mvn")), ("javac", java_program("javac"))) if not path]
    if missing:
        raise FetchFailed(f"no {' and no '.join(missing)} on the PATH to fetch Nacos {line.version} with")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.parent):
            if not place.is_dir():
                _fetch(line, place)
    except OSError as error:
        raise FetchFailed(f"Nacos {line.version} cannot be kept in {place.parent}: {error}") from error


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process of this machine at a time; the others wait."""
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(line: Line, place: Path) -> None:
    """Fill a folder beside `place`, which gets its name when it is complete."""
    partial = place.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "pom.xml").write_text(_project(line))
    options = ["--quiet", "--batch-mode", "--strict-checksums", "--file", "pom.xml"]
    _run(["mvn", *options, _COPY, "-DincludeScope=runtime", "-DoutputDirectory=jars"], partial, line)
    source = _SOURCES / f"nacos{line.number}.java"
    _run([java_program("javac") or "javac", "-nowarn", "-cp", "jars/*", "-d", "main", str(source)], partial, line)
    partial.rename(place)


def _run(command: list[str], directory: Path, line: Line) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchFailed(f"{command[0]} was not done with Nacos {line.version} in {_FETCH_SECONDS:g} s") from error
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise FetchFailed(f"{command[0]} failed on Nacos {line.version}: {said[:_SHOWN]}")


def _project(line: Line) -> str:
    wanted = "".join(
        f"<dependency><groupId>{line.group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{line.version}</version></dependency>"
        for artifact in line.artifacts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>sofa-registry-testing</groupId><artifactId>nacos</artifactId><version>1</version>"
        f"<dependencies>{wanted}</dependencies></project>"
    )
