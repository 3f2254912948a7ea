"""Port numbers for servers that are stopped and started again under the eyes of their clients."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_HIGHEST = 65_535
_TRIES = 200


def free_port(host: str = "127.0.0.1", offsets: Collection[int] = (0,)) -> int:
    """A port of `host` that nobody listens on and that the kernel hands to no outgoing connection.

    `offsets` is for a server with several ports at fixed distances from its main one: all of them are free then.

    A port of the ephemeral range would be wrong for a server that goes away for a while: a client that keeps
    dialling it on loopback may be given that very port as its own and connect to itself, and the server could
    never come back. Where the range is not known, or takes everything, any free port will do.
    Another process may still take the port before its owner binds it: bind, and ask again if that fails.
    """
    ceiling = _ephemeral_floor()
    draw = random.SystemRandom()
    lowest, highest = _LOWEST - min(offsets), ceiling - max(offsets)
    for _ in range(_TRIES if highest > lowest else 0):
        port = draw.randrange(lowest, highest)
        if all(_can_bind(host, port + offset) for offset in offsets):
            return port
    return _any_port(host, offsets)


def _any_port(host: str, offsets: Collection[int]) -> int:
    """One of those that the kernel hands out."""
    for _ in range(_TRIES):
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if all(0 < port + offset <= _HIGHEST and _can_bind(host, port + offset) for offset in offsets):
            return port
    message = f"{host} has no free ports at the distances {', '.join(map(str, offsets))}"
    raise OSError(message)


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
