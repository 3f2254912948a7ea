"""Connections to one server at a time: a channel of grpc.aio each, made anew rather than mended. Nothing here retries."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc

from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.failures import translate, translating
from sofa_registry_adapters.backends.etcd.messages import Call, Message, rpc
from sofa_registry_adapters.backends.grpc_loading import Anchor, Channels
from sofa_registry_adapters.errors import Denied, InvalidURL, RegistryError, Unavailable, Unsupported
from sofa_registry_adapters.spi.diagnosis import is_older
from sofa_registry_adapters.spi.files import check_files
from sofa_registry_adapters.spi.logging_in import present_login
from sofa_registry_adapters.spi.options import TLS_FILES, Address, Login, Target

NEEDED = (3, 4)
CONNECT_SECONDS = 2.0
MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    # A connection of its own for each channel, which begins to connect at once and not when another one's pause is over.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    # Servers end connections that ask more often than every five seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # This is also how long an attempt to connect may take, with all the round trips of TLS and HTTP/2 on a long line.
    ("grpc.min_reconnect_backoff_ms", round(1000 * CONNECT_SECONDS)),
    ("grpc.max_reconnect_backoff_ms", round(1000 * CONNECT_SECONDS)),
)
STATUS = messages.call("Maintenance", "Status")
LEADER_NEEDED = ("hasleader", "true")
"""Ends a stream when the server has lost its cluster, so that it does not stay silent."""


def _options() -> tuple[tuple[str, int], ...]:
    return (*_OPTIONS, ("grpc.max_receive_message_length", MESSAGE_BYTES))


class Connection:
    """A channel to one server."""

    def __init__(self, where: str, channel: Any) -> None:
        self.where = where
        self._channel = Channels.opened(channel)
        self._methods: dict[str, Any] = {}

    async def ask(self, call: Call, request: Message, token: str, seconds: float) -> Message:
        """The answer to one request. Raises what grpc raises."""
        method = self._methods.get(call.path)
        if method is None:
            opened = self._opened().unary_unary(call.path, call.request, call.response)
            method = self._methods[call.path] = opened
        return await method(request, timeout=seconds, metadata=_metadata(token))

    def converse(self, call: Call, requests: AsyncIterator[Message], token: str) -> Any:
        """A call with a stream of requests and one of responses."""
        method = self._opened().stream_stream(call.path, call.request, call.response)
        return method(requests, metadata=(LEADER_NEEDED, *_metadata(token)))

    def _opened(self) -> Any:
        if self._channel is None:
            raise Unavailable(f"the connection to etcd at {self.where} was given up")
        return self._channel

    async def close(self) -> None:
        """Disconnect, at once."""
        # grpc has a thread and files as long as a channel is known to anybody.
        channel, self._channel = self._channel, None
        self._methods.clear()
        if channel is not None:
            try:
                await channel.close()
            finally:
                Channels.closed()


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("token", token),) if token else ()


class Connector:
    """Knows how to connect to the servers of a target."""

    def __init__(self, target: Target) -> None:
        self._addresses = target.addresses
        self._secure = target.scheme == "etcds"
        self._files = {name: Path(file) for name in TLS_FILES if (file := target.text(name))}
        self._next = 0
        self.alone: bool = len(self._addresses) == 1
        self.call_timeout: float = target.number("call_timeout")
        # All of them get their turn while one verb waits.
        self._patience = min(CONNECT_SECONDS, 0.9 * self.call_timeout / len(self._addresses))
        self._target = target

    def check_files(self) -> None:
        """Raise `InvalidURL` if a file that the options name is not there, or is not what it should be."""
        check_files(self._target, ("password_file",))

    @property
    def identified(self) -> bool:
        """Whether there is a user to log in."""
        return self._target.identified

    async def login(self) -> Login:
        """User and password as they are now. Raises `Unavailable`."""
        return await present_login(self._target)

    def skip(self) -> None:
        """The server that is used has failed: begin with the one after it."""
        self._next = (self._next + 1) % len(self._addresses)

    async def connect(self) -> Connection:
        """A connection that answers, to the first server that has one. Raises what the last one said."""
        problems: list[RegistryError] = []
        for _ in self._addresses:
            try:
                return await self._try(self._addresses[self._next])
            except RegistryError as error:
                problems.append(error)
                self.skip()
        # What was understood says more than silence.
        raise next((one for one in problems if not isinstance(one, Unavailable)), problems[-1])

    async def _try(self, address: Address) -> Connection:
        host = f"[{address.host}]" if ":" in address.host else address.host
        where = f"{host}:{address.port}"
        await self._knock(address, where)
        connection = Connection(where, self._channel(f"dns:///{where}"))
        try:
            # Newer servers with users tell it to administrators only. They answer, which is what was to be seen.
            with contextlib.suppress(Denied), translating(where):
                check_status(await connection.ask(STATUS, rpc.StatusRequest(), "", self._patience), where)
        except BaseException as error:
            with contextlib.suppress(Exception):
                await connection.close()
            if isinstance(error, Unavailable) and "Socket closed" in str(error):
                hint = "if it speaks without TLS, write etcd://" if self._secure else "if it speaks TLS, write etcds://"
                raise Unavailable(f"{error}: {hint}") from error
            raise
        return connection

    async def _knock(self, address: Address, where: str) -> None:
        """See whether somebody is there, which costs a twentieth of a channel."""
        try:
            async with asyncio.timeout(self._patience):
                _, writer = await asyncio.open_connection(address.host, address.port)
        except OSError as error:
            text = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error) or "no answer in time"
            raise Unavailable(f"etcd at {where} cannot be reached: {text}") from None
        writer.transport.abort()

    def _channel(self, target: str) -> Any:
        if not self._secure:
            return grpc.aio.insecure_channel(target, options=_options())
        # Read each time: certificates are renewed under a running process.
        ca, cert, key = (self._read(name) for name in ("ca", "cert", "key"))
        credentials = grpc.ssl_channel_credentials(ca, (key or cert) if cert else None, cert)
        return grpc.aio.secure_channel(target, credentials, options=_options())

    def _read(self, name: str) -> bytes | None:
        file = self._files.get(name)
        if file is None:
            return None
        try:
            return file.read_bytes()
        except OSError as error:
            raise InvalidURL(f"the option {name} names {str(file)!r}: {error}") from None


def check_status(status: Message, where: str) -> None:
    """Raise `Unsupported` if the server is too old, and `Unavailable` if it has lost its cluster."""
    if is_older(status.version, NEEDED):
        raise Unsupported(f"etcd at {where} is version {status.version}: this backend needs etcd 3.4 or later")
    if not status.leader:
        raise Unavailable(f"etcd at {where} has no leader: it lost the others of its cluster")


def anchored() -> Anchor:
    """What keeps grpc as it is while one connection is given up and another one is made."""
    return Anchor(grpc.aio.insecure_channel(Anchor.where))


class Conversation:
    """A stream of requests and responses, and the task that listens. Saying something never waits.

    ``heard`` is called with each response, ``ended`` with the reason, unless it was ended by `close`.
    """

    def __init__(
        self,
        connection: Connection,
        call: Call,
        token: str,
        heard: Callable[[Message], None],
        ended: Callable[[RegistryError], None],
    ) -> None:
        self.token = token
        self._where = connection.where
        self._heard = heard
        self._ended = ended
        self._outgoing: asyncio.Queue[Message | None] = asyncio.Queue()
        self._call = connection.converse(call, self._requests(), token)
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._listen())

    def say(self, request: Message) -> None:
        """Send a request, after those before it."""
        self._outgoing.put_nowait(request)

    async def _requests(self) -> AsyncIterator[Message]:
        while (request := await self._outgoing.get()) is not None:
            yield request

    async def _listen(self) -> None:
        try:
            with translating(self._where):
                async for response in self._call:
                    self._heard(response)
            reason: RegistryError = Unavailable(f"etcd at {self._where} ended the stream")
        except RegistryError as error:
            reason = error
        except Exception as error:  # noqa: BLE001  whatever it is, those who listen have to know
            reason = translate(error, self._where)
        finally:
            # grpc goes on waiting for what else there is to be said.
            self._outgoing.put_nowait(None)
        self._ended(reason)

    async def close(self) -> None:
        """End it; nobody is told."""
        call, task, self._call, self._task = self._call, self._task, None, None
        if call is not None and task is not None:
            task.cancel()
            call.cancel()
            # A call that has ended by itself leaves grpc's task waiting for the next request.
            self._outgoing.put_nowait(None)
            await asyncio.wait((task,))
