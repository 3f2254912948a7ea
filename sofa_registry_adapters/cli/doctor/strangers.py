"""Who answers at a port, when it is not who was expected. One question that several products answer, each in its way."""

from __future__ import annotations

import asyncio
import ssl
from enum import Enum

QUESTION = b"srvr\r\n"
"""A command of ZooKeeper, an unknown one to Redis, no request to a web server, no handshake to TLS."""
LONGEST = 1.5
"""Seconds that the answer may take."""


class Stranger(Enum):
    """What the answer looks like, in words for a sentence."""

    REDIS = "a Redis server"
    ZOOKEEPER = "a ZooKeeper server"
    WEB = "a web server"
    TLS = "a server that speaks TLS"
    SILENT = "nobody who answers"


SCHEMES = {Stranger.REDIS: "redis", Stranger.ZOOKEEPER: "zookeeper"}
"""The schemes of those for which there is a backend."""

_SIGNS = (
    (b"Zookeeper version", Stranger.ZOOKEEPER),
    (b"srvr is not executed because", Stranger.ZOOKEEPER),
    (b"This ZooKeeper instance", Stranger.ZOOKEEPER),
    (b"-ERR ", Stranger.REDIS),
    (b"-NOAUTH ", Stranger.REDIS),
    (b"-NOPERM ", Stranger.REDIS),
    (b"-DENIED ", Stranger.REDIS),
    (b"-LOADING ", Stranger.REDIS),
    (b"HTTP/", Stranger.WEB),
    (b"\x15\x03", Stranger.TLS),
)


def recognised(answer: bytes) -> Stranger | None:
    """Whose answer to `QUESTION` this is."""
    return next((who for sign, who in _SIGNS if answer.startswith(sign)), None)


async def ask_who(ip: str, port: int, timeout: float) -> Stranger | None:
    """Who is at the port; None if it ends the connection without a word that is known."""
    who = await _asked(ip, port, timeout)
    return Stranger.TLS if who is None and await _speaks_tls(ip, port, timeout) else who


async def _asked(ip: str, port: int, timeout: float) -> Stranger | None:
    try:
        async with asyncio.timeout(min(timeout, LONGEST)):
            reader, writer = await asyncio.open_connection(ip, port)
            try:
                writer.write(QUESTION)
                answer = await reader.read(256)
            finally:
                writer.transport.abort()
    except TimeoutError:
        return Stranger.SILENT
    except OSError:
        return None
    return recognised(answer)


async def _speaks_tls(ip: str, port: int, timeout: float) -> bool:
    """Whether it takes, or refuses in the words of TLS, a handshake in which nothing is verified and nothing said."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(min(timeout, LONGEST)):
            _, writer = await asyncio.open_connection(ip, port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
