"""On what, and with which versions, was measured."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import time
from importlib import metadata
from pathlib import Path

import msgspec

PACKAGES = (
    "sofa-registry-adapters",
    "msgspec",
    "kazoo",
    "etcd3",
    "grpcio",
    "protobuf",
    "redis",
    "tooz",
    "etcd3gw",
    "nacos-sdk-python",
)


class Machine(msgspec.Struct):
    """The load average is that of the last minute when the measuring began."""

    date: str
    system: str
    processor: str
    processors: int
    memory_gib: float
    load: float
    python: str
    versions: dict[str, str]


def machine(server: str = "") -> Machine:
    """This machine, now. ``server`` is the version of the server."""
    versions = {"sqlite": sqlite3.sqlite_version}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    if server:
        versions["server"] = server
    return Machine(
        date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        processor=_processor(),
        processors=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        load=round(os.getloadavg()[0], 2),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=versions,
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
