"""Commands and their answers: on a few connections for each server, many in one round trip. Nothing here retries."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Connection
from redis.exceptions import NoScriptError, ResponseError

from sofa_registry_adapters.backends.redis.connecting import Connector, Link, part
from sofa_registry_adapters.backends.redis.failures import translate, translating
from sofa_registry_adapters.backends.redis.scripting import Command, Script
from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable

COMMAND_CONNECTIONS = 4
IDLE_SECONDS = 15.0
"""A connection that was not used for so long is not used again: the server may have ended it."""
PIPELINED = 500
"""Commands in one round trip at most."""
PIPELINED_BYTES = 4_000_000


class Commands(ABC):
    """Runs commands where the records are."""

    @abstractmethod
    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, in order; a `RegistryError` in the place of one that was refused.

        Raises `Unavailable`, and then nothing is known about any of them.
        """

    async def one(self, command: Command) -> Any:
        """The answer to one command. Raises a `RegistryError` if it was refused."""
        (answer,) = await self.run((command,))
        if isinstance(answer, RegistryError):
            raise answer
        return answer

    async def run_between(self, frame: Command, commands: Sequence[Command]) -> list[Any]:
        """As `run` of the frame, the commands and the frame again, one behind the other.

        What comes behind is carried out only if something is known about what is before it.
        """
        return await self.run([frame, *commands, frame])

    @property
    @abstractmethod
    def cuts(self) -> int:
        """How many connections broke: a server that was lost may come back with older data."""

    @abstractmethod
    def home_of(self, key: bytes) -> str:
        """The history that the answer about this key is part of which was given last; see `Connector.home`."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; never raises, and never takes long."""


class ServerCommands(Commands):
    """Runs them on one server, many in one round trip, on a few connections that are made when needed."""

    def __init__(self, connector: Connector, scripts: Mapping[str, Script]) -> None:
        self._connector = connector
        self._bodies = {script.digest: script.body for script in scripts.values()}
        self._places = asyncio.Semaphore(COMMAND_CONNECTIONS)
        self._idle: list[tuple[Link, float]] = []
        self._cuts = 0
        self._closed = False

    @property
    def cuts(self) -> int:
        return self._cuts

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        answers = await self.exchange(commands)
        for answer in answers:
            if isinstance(answer, Unavailable):
                raise answer
        return answers

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """As `run`, with an `Unavailable` that the server itself answers in its place as well."""
        answers: list[Any] = []
        for some in _portions(commands):
            with translating(self._connector.where):
                answers += await self._round_trip(some)
        return answers

    def home_of(self, key: bytes) -> str:
        return self._connector.home

    async def _round_trip(self, commands: Sequence[Command]) -> list[Any]:
        answers = await self._send(commands)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            again = await self._send([self._spelled_out(commands[at]) for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        where = self._connector.where
        answers = [translate(answer, where) if isinstance(answer, ResponseError) else answer for answer in answers]
        if any(isinstance(answer, Unavailable) for answer in answers):
            # A server that cannot serve now may be the wrong one by now.
            self._cuts += 1
            await self._part_idle(len(self._idle))
        return answers

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        async with asyncio.timeout(self._connector.call_timeout), self._places:
            if self._closed:
                raise Closed("the store was closed")
            link = await self._taken()
            connection = link.connection
            try:
                await connection.send_packed_command(connection.pack_commands(commands))
                answers = [await _answer(connection) for _ in commands]
                if link.home != self._connector.home:
                    raise Unavailable(
                        f"redis at {self._connector.where} has taken over: the server before it is not believed"
                    )
            except BaseException:
                self._cuts += 1
                await part(connection)
                # What happened to one connection has most probably happened to all.
                await self._part_idle(len(self._idle))
                raise
            await self._keep(link)
            return answers

    async def _taken(self) -> Link:
        try:
            return await self._take()
        except BaseException:
            self._cuts += 1
            raise

    async def _take(self) -> Link:
        now = asyncio.get_running_loop().time()
        # The one used last is last, so the first ones are the oldest.
        await self._part_idle(sum(now - used > IDLE_SECONDS for _, used in self._idle))
        if any(link.home != self._connector.home or _ended(link.connection) for link, _ in self._idle):
            self._cuts += 1
            await self._part_idle(len(self._idle))
        return self._idle.pop()[0] if self._idle else await self._connector.connect()

    async def _keep(self, link: Link) -> None:
        self._idle.append((link, asyncio.get_running_loop().time()))
        if self._closed:
            await self._part_idle(len(self._idle))

    async def _part_idle(self, count: int) -> None:
        parting, self._idle = self._idle[:count], self._idle[count:]
        for link, _ in parting:
            await part(link.connection)

    def _spelled_out(self, command: Command) -> Command:
        digest = command[1]
        assert isinstance(digest, bytes)  # noqa: S101  only scripts are unknown
        return ("EVAL", self._bodies[digest], *command[2:])

    async def close(self) -> None:
        self._closed = True
        await self._part_idle(len(self._idle))


def _ended(connection: Connection) -> bool:
    """Whether the server ended the connection while nobody used it."""
    reader = connection._reader  # noqa: SLF001  the client library finds out by sending, when the outcome is unknown
    return reader is None or reader.at_eof() or reader.exception() is not None


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
