"""The table of products: how each is probed, found on this machine, configured, and run in a container."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from sofa_registry_adapters.testing.services import etcd, nacos
from sofa_registry_adapters.testing.services.product import (
    QUICK_START_FLAGS,
    Image,
    Prepare,
    Product,
    java_program,
)


def _ask(host: str, port: int, timeout: float, question: bytes) -> tuple[bytes, str]:
    """The first bytes of the answer, and what went wrong instead."""
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(question)
            answer = connection.recv(4096)
    except OSError as error:
        return b"", f"{type(error).__name__}: {error}"
    return answer, "" if answer else "it closed the connection without an answer"


def probe_redis(host: str, port: int, timeout: float) -> str:
    """PING: a pong, or a demand for a password, is an answer."""
    answer, trouble = _ask(host, port, timeout, b"PING\r\n")
    if trouble or answer.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM")):
        return trouble
    return f"it answered PING with {answer[:80]!r}"


def probe_zookeeper(host: str, port: int, timeout: float) -> str:
    """`srvr`: unlike `ruok` it is never switched off, and it fails on a server that runs without serving."""
    answer, trouble = _ask(host, port, timeout, b"srvr")
    if trouble or answer.startswith(b"Zookeeper version"):
        return trouble
    return f"it answered srvr with {answer[:80]!r}"


def _redis_options(persistent: bool) -> list[str]:  # noqa: FBT001 - the shape of Image.command
    return ["--save", "", "--appendonly", "yes" if persistent else "no"]


def _prepare_redis(directory: Path, port: int, persistent: bool) -> Sequence[str]:  # noqa: FBT001
    place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
    return ["redis-server", *place, *_redis_options(persistent)]


def find_redis() -> Prepare | str:
    """redis-server on the PATH."""
    return _prepare_redis if shutil.which("redis-server") else "no redis-server on the PATH"


_ZOOKEEPER_FLAGS = (
    "-Xmx256m",
    "-Dzookeeper.extendedTypesEnabled=true",  # container and TTL nodes
    "-Dzookeeper.forceSync=no",
)
_DEBIAN_JARS = Path("/usr/share/java")
_DEBIAN_NAMES = ("zookeeper", "slf4j-simple", "netty-codec", "netty-resolver")


def _zookeeper_jars() -> str:
    """The class path of a server: a distribution named by ZOOKEEPER_HOME, or Debian's package."""
    home = os.environ.get("ZOOKEEPER_HOME")
    if home and any(Path(home, "lib").glob("zookeeper-*.jar")):
        return f"{home}/lib/*"
    if (_DEBIAN_JARS / "zookeeper.jar").exists():
        # Its manifest names the other jars, all but the one that writes the log and two that TLS needs.
        return ":".join(f"{_DEBIAN_JARS}/{name}.jar" for name in _DEBIAN_NAMES)
    return ""


def find_zookeeper() -> Prepare | str:
    """A Java runtime and the server's jars."""
    java, jars = java_program("java"), _zookeeper_jars()
    missing = [
        text
        for text, found in (
            ("no java on the PATH or in JAVA_HOME", java),
            (f"no ZooKeeper jars in ZOOKEEPER_HOME/lib or {_DEBIAN_JARS}", jars),
        )
        if not found
    ]
    if java is None or missing:
        return " and ".join(missing)

    def prepare(directory: Path, port: int, _: bool) -> Sequence[str]:  # noqa: FBT001
        configuration = directory / "zoo.cfg"
        configuration.write_text(_ZOOKEEPER_CONFIGURATION.format(directory=directory, port=port))
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return [java, *_ZOOKEEPER_FLAGS, *QUICK_START_FLAGS, "-cp", jars, main, str(configuration)]

    return prepare


_ZOOKEEPER_CONFIGURATION = """\
tickTime=500
initLimit=10
syncLimit=5
minSessionTimeout=1000
maxClientCnxns=0
dataDir={directory}/data
clientPort={port}
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=*
"""

PRODUCTS: Mapping[str, Product] = {
    "redis": Product(
        name="redis",
        scheme="redis",
        port=6379,
        package="redis-server",
        image=Image(
            name="redis:latest",
            port=6379,
            command=lambda persistent: [
                *("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"),  # noqa: S104 - a container
                *_redis_options(persistent),
            ],
        ),
        probe=probe_redis,
        local=find_redis,
    ),
    "zookeeper": Product(
        name="zookeeper",
        scheme="zookeeper",
        port=2181,
        package="zookeeper default-jre-headless",
        image=Image(
            name="zookeeper:3.8",
            port=2181,
            command=lambda _: None,
            environment={
                "JDK_JAVA_OPTIONS": " ".join(_ZOOKEEPER_FLAGS),
                "ZOO_TICK_TIME": "500",
                "ZOO_MAX_CLIENT_CNXNS": "0",
                "ZOO_ADMINSERVER_ENABLED": "false",
                "ZOO_4LW_COMMANDS_WHITELIST": "*",
                "ZOO_CFG_EXTRA": "minSessionTimeout=1000",
            },
        ),
        probe=probe_zookeeper,
        local=find_zookeeper,
    ),
    "etcd": etcd.product(),
    "etcd36": etcd.product(etcd.CURRENT),
    "nacos": nacos.product(3),
    "nacos2": nacos.product(2),
}
