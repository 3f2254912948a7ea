"""Connections to servers. Nothing here retries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sofa_registry_adapters.spi.files import check_files
from sofa_registry_adapters.spi.logging_in import present_login
from sofa_registry_adapters.spi.options import Address, Login, Target

CONNECT_SECONDS = 2.0
GOODBYE_SECONDS = 0.2
PASSWORDS = ("password_file", "sentinel_password_file")


class Link(NamedTuple):
    """A connection that is ready to be used, and the history that its server is part of."""

    connection: Connection
    home: str


class Wiring:
    """How connections are made, whatever server they lead to."""

    def __init__(self, target: Target) -> None:
        self.call_timeout: float = target.number("call_timeout")
        self._target = target
        encrypted = target.scheme.startswith("rediss")
        self._kind: type[Connection] = SSLConnection if encrypted else Connection
        self._settings: Mapping[str, Any] = {
            "protocol": 2,
            "socket_connect_timeout": min(CONNECT_SECONDS, self.call_timeout),
            # Whole round trips are bounded here, and waiting for messages is not.
            "socket_timeout": None,
            "health_check_interval": 0,
            **(_tls(target) if encrypted else {}),
        }

    def check_files(self) -> None:
        """Raise `InvalidURL` if a file that the options name is not there, or is not what it should be."""
        check_files(self._target, PASSWORDS)

    async def connect(self, address: Address, login: Login, database: int = 0) -> Connection:
        """A new connection, logged in. Raises what the client library raises, and `TimeoutError`."""
        who: dict[str, Any] = {"username": login.username or None, "password": login.password or None}
        where: dict[str, Any] = {"host": address.host, "port": address.port, "db": database}
        connection = self._kind(retry=Retry(NoBackoff(), 0), **where, **who, **self._settings)
        try:
            async with asyncio.timeout(self.call_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await part(connection)
            raise
        return connection


class Connector:
    """Knows how to connect to the one server of a target."""

    home: str = ""
    """The history that the server is part of that was found last; where there is one server only it needs no name.

    What servers have in common that were, one after the other, the only one to be written to. Another history may lack the
    last writes of the one before.
    """

    def __init__(self, target: Target, database: int = 0) -> None:
        self.wiring = Wiring(target)
        self.call_timeout: float = self.wiring.call_timeout
        self.where: str = named(target.addresses[0])
        self._target = target
        self._database = database

    async def connect(self) -> Link:
        """A new connection. Raises a `RegistryError`, what the client library raises, and `TimeoutError`."""
        return Link(await self.open(self._target.addresses[0]), self.home)

    async def open(self, address: Address) -> Connection:
        """A new connection to a server that has the records."""
        return await self.wiring.connect(address, await present_login(self._target), self._database)


def named(address: Address) -> str:
    """A server in a message."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def _tls(target: Target) -> dict[str, Any]:
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": target.text("ca") or None,
        "ssl_certfile": target.text("cert") or None,
        "ssl_keyfile": target.text("key") or None,
    }


async def part(connection: Connection) -> None:
    """Disconnect; never raises, and never takes long."""
    writer = connection._writer  # noqa: SLF001  nothing public lets go of bytes that a silent server does not take
    if writer is not None:
        writer.transport.abort()
    with contextlib.suppress(Exception):
        async with asyncio.timeout(GOODBYE_SECONDS):
            await connection.disconnect(nowait=True)
