"""Connections to the server: a few for commands, and one for messages. Nothing here retries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from sofa_registry_adapters.backends.redis import database
from sofa_registry_adapters.backends.redis.failures import translate, translating
from sofa_registry_adapters.backends.redis.scripting import Command, Script
from sofa_registry_adapters.errors import Closed, InvalidURL, RegistryError, Unavailable
from sofa_registry_adapters.spi.logging_in import present_login
from sofa_registry_adapters.spi.options import Target

COMMAND_CONNECTIONS = 4
IDLE_SECONDS = 15.0
"""A connection that was not used for so long is not used again: the server may have ended it."""
CONNECT_SECONDS = 2.0
GOODBYE_SECONDS = 0.2
PIPELINED = 500
"""Commands in one round trip at most."""
PIPELINED_BYTES = 4_000_000


class Connector:
    """Knows how to connect to the server of a target."""

    def __init__(self, target: Target) -> None:
        address = target.addresses[0]
        self.where: str = f"{address.host}:{address.port}"
        self.call_timeout: float = target.number("call_timeout")
        self._target = target
        self._files = {name: file for name in ("password_file", "ca", "cert", "key") if (file := target.text(name))}
        self._kind: type[Connection] = SSLConnection if target.scheme == "rediss" else Connection
        self._settings: Mapping[str, Any] = {
            "host": address.host,
            "port": address.port,
            "db": database(target),
            "protocol": 2,
            "socket_connect_timeout": min(CONNECT_SECONDS, self.call_timeout),
            # Whole round trips are bounded here, and waiting for messages is not.
            "socket_timeout": None,
            "health_check_interval": 0,
            **(_tls(target) if target.scheme == "rediss" else {}),
        }

    def check_files(self) -> None:
        """Raise `InvalidURL` if a file that the options name is not there."""
        for name, file in self._files.items():
            if not Path(file).is_file():
                raise InvalidURL(f"the option {name} names {file!r}, which is not a file")

    async def connect(self) -> Connection:
        """A new connection, ready to be used."""
        login = await present_login(self._target)
        who: dict[str, Any] = {"username": login.username or None, "password": login.password or None}
        connection = self._kind(retry=Retry(NoBackoff(), 0), **who, **self._settings)
        try:
            async with asyncio.timeout(self.call_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await part(connection)
            raise
        return connection


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


class Commands:
    """Runs commands on the server, many in one round trip, on a few connections that are made when needed."""

    def __init__(self, connector: Connector, scripts: Mapping[str, Script]) -> None:
        self.where: str = connector.where
        self._connector = connector
        self._bodies = {script.digest: script.body for script in scripts.values()}
        self._places = asyncio.Semaphore(COMMAND_CONNECTIONS)
        self._idle: list[tuple[Connection, float]] = []
        self._closed = False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, in order; a `RegistryError` in the place of one that was refused.

        Raises `Unavailable`, and then nothing is known about any of them.
        """
        answers: list[Any] = []
        for some in _portions(commands):
            with translating(self.where):
                answers += await self._round_trip(some)
        for answer in answers:
            if isinstance(answer, Unavailable):
                raise answer
        return answers

    async def one(self, command: Command) -> Any:
        """The answer to one command. Raises a `RegistryError` if it was refused."""
        (answer,) = await self.run((command,))
        if isinstance(answer, RegistryError):
            raise answer
        return answer

    async def _round_trip(self, commands: Sequence[Command]) -> list[Any]:
        answers = await self._send(commands)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            again = await self._send([self._spelled_out(commands[at]) for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        return [translate(answer, self.where) if isinstance(answer, ResponseError) else answer for answer in answers]

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        async with asyncio.timeout(self._connector.call_timeout), self._places:
            if self._closed:
                raise Closed("the store was closed")
            connection = await self._take()
            try:
                await connection.send_packed_command(connection.pack_commands(commands))
                answers = [await _answer(connection) for _ in commands]
            except BaseException:
                await part(connection)
                # What happened to one connection has most probably happened to all.
                await self._part_idle(len(self._idle))
                raise
            await self._keep(connection)
            return answers

    async def _take(self) -> Connection:
        now = asyncio.get_running_loop().time()
        # The one used last is last, so the first ones are the oldest.
        await self._part_idle(sum(now - used > IDLE_SECONDS for _, used in self._idle))
        return self._idle.pop()[0] if self._idle else await self._connector.connect()

    async def _keep(self, connection: Connection) -> None:
        self._idle.append((connection, asyncio.get_running_loop().time()))
        if self._closed:
            await self._part_idle(len(self._idle))

    async def _part_idle(self, count: int) -> None:
        parting, self._idle = self._idle[:count], self._idle[count:]
        for connection, _ in parting:
            await part(connection)

    def _spelled_out(self, command: Command) -> Command:
        digest = command[1]
        assert isinstance(digest, bytes)  # noqa: S101  only scripts are unknown
        return ("EVAL", self._bodies[digest], *command[2:])

    async def close(self) -> None:
        """Disconnect; never raises, and never takes long."""
        self._closed = True
        await self._part_idle(len(self._idle))


async def _answer(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _portions(commands: Sequence[Command]) -> list[Sequence[Command]]:
    portions: list[list[Command]] = [[]]
    size = 0
    for command in commands:
        bytes_ = sum(len(argument) for argument in command if not isinstance(argument, int))
        if portions[-1] and (len(portions[-1]) >= PIPELINED or size + bytes_ > PIPELINED_BYTES):
            portions.append([])
            size = 0
        portions[-1].append(command)
        size += bytes_
    return [portion for portion in portions if portion]
