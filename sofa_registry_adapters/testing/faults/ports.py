"""Port numbers for servers that are stopped and started again under the eyes of their clients."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_TRIES = 200


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` that nobody listens on and that the kernel hands to no outgoing connection.

    A port of the ephemeral range would be wrong for a server that goes away for a while: a client that keeps
    dialling it on loopback may be given that very port as its own and connect to itself, and the server could
    never come back. Where the range is not known, or takes everything, any free port will do.
    Another process may still take the port before its owner binds it: bind, and ask again if that fails.
    """
    ceiling = _ephemeral_floor()
    draw = random.SystemRandom()
    for _ in range(_TRIES if ceiling > _LOWEST else 0):
        port = draw.randrange(_LOWEST, ceiling)
        if _can_bind(host, port):
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _ephemeral_floor() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _can_bind(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
