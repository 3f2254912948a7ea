"""One connection to one Nacos server: a gRPC channel for requests, and a stream on which the server calls us.

Everything that a client registers or subscribes to belongs to its connection: the server forgets it when the stream ends. So the
end of the stream, for whatever reason, is the end of the connection; nothing here connects again.

A TCP connection of grpc lives as long as any object of a call that was made on it, and so does what we registered. Such an object stays in the
frames of whatever exception passed through it; exceptions are kept, by applications for hours. Therefore calls are made in tasks of their own,
which raise nothing, and errors are made outside of ``except``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import grpc
import grpc.aio
import msgspec

from sofa_registry_adapters.backends.nacos import wire
from sofa_registry_adapters.backends.nacos.failures import explained
from sofa_registry_adapters.errors import BackendDefect, RegistryError, Unavailable

UNREGISTERED = 301
"""The server does not know the connection: not yet, or not any more."""
SETTLE = 0.005
"""Seconds between two looks at whether the server knows a new connection."""
GOODBYE = 0.2
"""Seconds that taking leave of a server may take."""

OPTIONS = (
    # The server takes requests up to 10 MB; what it sends has no limit, and 4 MB are only some 8 000 instances.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Channels that share a subchannel share its wait before the next attempt to connect, up to two minutes.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)

Handler = Callable[["Connection", memoryview], None]
"""Takes the JSON of a request of the server. It must not wait, and what it raises ends the connection."""


class Server(NamedTuple):
    """Where to connect, and how."""

    target: str
    where: str
    credentials: grpc.ChannelCredentials | None
    client_ip: str


class Connection:
    """See the module. Made by `connect`."""

    def __init__(self, server: Server, pushed: Mapping[str, Handler]) -> None:
        self.id: str = ""
        """The server's name for the connection."""
        self.gone: asyncio.Event = asyncio.Event()
        """Set when the connection is over, whoever ended it."""
        self.why: RegistryError = Unavailable(f"{server.where}: the connection ended")
        """Why it is over, once it is."""
        self._server = server
        self._pushed = pushed
        aio = grpc.aio
        if server.credentials is None:
            self._channel = aio.insecure_channel(server.target, OPTIONS)
        else:
            self._channel = aio.secure_channel(server.target, server.credentials, OPTIONS)
        self._unary = self._channel.unary_unary(wire.REQUEST)
        self._stream: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, server: Server, setup: Mapping[str, Any], pushed: Mapping[str, Handler]) -> Connection:
        """A connection that the server knows. Raises a `RegistryError`; the caller bounds it."""
        connection = cls(server, pushed)
        try:
            await connection._set_up(setup)
        except BaseException:
            connection.drop(Unavailable(f"{server.where}: connecting was given up"))
            await connection.close()
            raise
        return connection

    async def _set_up(self, setup: Mapping[str, Any]) -> None:
        checked = msgspec.json.decode(await self.exchange("ServerCheckRequest", b"{}", {}), type=_Checked)
        if checked.result_code != 200:
            raise Unavailable(f"{self._server.where} is not ready: {checked.message}")
        self.id = checked.connection_id
        self._stream = self._channel.stream_stream(wire.STREAM)()
        self._reader = asyncio.create_task(self._read())
        await self._say("ConnectionSetupRequest", msgspec.json.encode(setup))
        # Only servers of line 3 say when they know the connection; all of them can be asked.
        while True:
            answer = msgspec.json.decode(await self.exchange("HealthCheckRequest", b"{}", {}), type=wire.Answer)
            if answer.result_code == 200 or answer.error_code != UNREGISTERED:
                return
            await asyncio.sleep(SETTLE)

    async def exchange(self, kind: str, body: bytes, headers: Mapping[str, str]) -> memoryview:
        """Ask, and return the JSON of the answer. Raises `Unavailable`; the caller bounds it."""
        if self.gone.is_set():
            raise self.why
        answer = await self._apart(self._unary, wire.encode(kind, body, headers, self._server.client_ip))
        return wire.decode(answer)[1]

    async def _say(self, kind: str, body: bytes) -> None:
        await self._apart(self._stream.write, wire.encode(kind, body, {}, self._server.client_ip))

    async def _apart(self, method: Callable[[bytes], Awaitable[Any]], payload: bytes) -> Any:
        """The result of a call, or its error, in which nothing is left of it."""
        task = asyncio.create_task(self._outcome(method, payload))
        del method
        try:
            await asyncio.wait((task,))
        finally:
            task.cancel()
        outcome = task.result()
        if isinstance(outcome, RegistryError):
            raise outcome
        return outcome

    async def _outcome(self, method: Callable[[bytes], Awaitable[Any]], payload: bytes) -> Any:
        try:
            return await method(payload)
        except grpc.aio.AioRpcError as error:
            return explained(error, self._server.where)
        except asyncio.InvalidStateError:
            return Unavailable(f"{self._server.where}: the connection is over")
        except asyncio.CancelledError:
            # A channel that is closed cancels its calls, and so whoever waits for one.
            return self.why

    async def _read(self) -> None:
        """Do what the server asks for, until the stream ends."""
        why: RegistryError = Unavailable(f"{self._server.where}: the server ended the connection")
        try:
            while (payload := await self._stream.read()) is not grpc.aio.EOF:
                await self._serve(payload)
        except grpc.aio.AioRpcError as error:
            why = explained(error, self._server.where)
        except RegistryError as error:
            why = error
        except (ValueError, msgspec.MsgspecError) as error:
            why = Unavailable(f"{self._server.where}: the server sent what cannot be read: {error}")
        except Exception as error:  # noqa: BLE001  whatever it is, the connection is in a state that nobody knows
            why = BackendDefect(f"{self._server.where}: {type(error).__name__} in what takes a push: {error}")
        finally:
            self.drop(why)

    async def _serve(self, payload: bytes) -> None:
        kind, body = wire.decode(payload)
        asked = msgspec.json.decode(body, type=wire.Pushed)
        if kind == "ConnectResetRequest":
            raise Unavailable(f"{self._server.where}: the server asks its clients to connect elsewhere")
        if (handler := self._pushed.get(kind)) is not None:
            handler(self, body)
        if asked.request_id is not None and kind != "SetupAckRequest":
            reply = {"requestId": asked.request_id, "resultCode": 200, "errorCode": 0}
            await self._say(kind.removesuffix("Request") + "Response", msgspec.json.encode(reply))

    def drop(self, why: RegistryError) -> None:
        """Be gone now, for this reason: the server forgets what was registered through it."""
        if self.gone.is_set():
            return
        self.why = why
        self.gone.set()
        self._closing = asyncio.create_task(self._close())

    async def close(self) -> None:
        """Return when the connection is over; never raises, and never takes long."""
        self.drop(Unavailable(f"{self._server.where}: the connection was closed"))
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(GOODBYE):
                await self._channel.close()
        if self._reader is not None:
            await asyncio.wait((self._reader,), timeout=GOODBYE)
        self._stream = self._unary = self._channel = self._reader = None


class _Checked(wire.Answer):
    connection_id: str = ""
