"""The way to a Nacos server: at most one connection at a time, made when it is first needed, and requests on it.

What a backend on top of it has to know:

- `Transport.ask` sends one request and decodes its answer. It is bounded by ``call_timeout``, carries the token, takes one new token
  when the server refuses the old one, and retries nothing else. After `Unavailable` the outcome of a write is unknown: whoever must not
  have it applied later calls ``connection.drop``, since the server refuses requests of a connection that ended.
- `Transport.connection` is the one that is alive, or a new one. Those who call it at a time share one attempt, and an
  attempt that has just failed is not made again for `RECENT` seconds.
- What the server pushes goes to the handler of its kind (see `connection.Handler`), and is confirmed by the transport.
- What was registered or subscribed to is gone with its connection. A watch waits for ``connection.gone`` beside its messages, and then raises
  ``connection.why``: the engine opens it again, and so connects again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from http.client import OK, responses
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import msgspec

from sofa_registry_adapters.backends.grpc_loading import Anchor
from sofa_registry_adapters.backends.nacos import wire
from sofa_registry_adapters.backends.nacos.access import ABSENT, Access
from sofa_registry_adapters.backends.nacos.connection import UNREGISTERED, Connection, Handler, Server
from sofa_registry_adapters.backends.nacos.failures import FORBIDDEN, refusal
from sofa_registry_adapters.backends.nacos.web import Reply, Web
from sofa_registry_adapters.errors import Closed, DeadlineExceeded, RegistryError, Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.files import check_files
from sofa_registry_adapters.spi.options import Address, Target

A = TypeVar("A", bound=wire.Answer)

CONNECT_SECONDS = 2.0
"""How long one server may take to accept a connection, where there are others."""
RECENT = 0.2
"""Seconds after a failed attempt to connect in which its error is everybody's: watches share the connection, and each has a pace of its own."""
VERSION = "sofa-registry-adapters:v1"
"""What the server notes as the client's version."""


class Transport:
    """See the module. ``module`` is ``naming`` or ``config``; ``pushed`` has a handler for each kind of push."""

    def __init__(self, target: Target, clock: Clock, module: str, pushed: Mapping[str, Handler]) -> None:
        hosts = ",".join(_joined(address, 0) for address in target.addresses)
        self.where: str = f"nacos at {hosts}"
        self.call_timeout: float = target.number("call_timeout")
        self._target = target
        self._module = module
        self._pushed = pushed
        self._web = Web(target, self._context if self._uses_tls("login_tls") else None)
        self._access = Access(target, clock, self._web)
        self._connection: Connection | None = None
        self._attempt: asyncio.Task[Connection] | None = None
        self._failed_at = -RECENT
        self._failure: RegistryError | None = None
        self._turn = 0
        self._closed = True
        self._held: Anchor | None = None

    async def open(self) -> None:
        """Connect. Raises `InvalidURL`, `Denied` or `Unavailable`; may be called again."""
        check_files(self._target)
        self._closed = False
        if self._held is None:
            self._held = Anchor(grpc.aio.insecure_channel(Anchor.where))
        await self._access.token()
        await self.connection()

    async def close(self) -> None:
        """Disconnect; never raises, and never takes long."""
        self._closed = True
        self._web.close()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
            await asyncio.wait((attempt,), timeout=CONNECT_SECONDS)
        if self._connection is not None:
            await self._connection.close()
        held, self._held = self._held, None
        if held is not None:
            await held.close()

    @property
    def has_account(self) -> bool:
        """Whether the URL names a user."""
        return self._access.needed

    @property
    def current(self) -> Connection | None:
        """The connection that is alive."""
        connection = self._connection
        return connection if connection is not None and not connection.gone.is_set() else None

    async def connection(self) -> Connection:
        """The connection that is alive, or a new one. Raises `Unavailable`."""
        if self._closed:
            raise Closed(f"{self.where}: it is not open")
        if (current := self.current) is not None:
            return current
        loop = asyncio.get_running_loop()
        if self._attempt is None:
            if self._failure is not None and loop.time() < self._failed_at + RECENT:
                raise self._failure.about(frozenset())
            self._attempt = asyncio.create_task(self._connect())
            self._attempt.add_done_callback(self._attempted)
        # Shielded: one caller who gives up does not cost the others their attempt.
        return await asyncio.shield(self._attempt)

    def _attempted(self, attempt: asyncio.Task[Connection]) -> None:
        if self._attempt is attempt:
            self._attempt = None
        if attempt.cancelled():
            return
        error = attempt.exception()
        self._failure = error if isinstance(error, RegistryError) else None
        self._failed_at = asyncio.get_running_loop().time()

    async def _connect(self) -> Connection:
        addresses = self._target.addresses
        seconds = self.call_timeout if len(addresses) == 1 else min(CONNECT_SECONDS, self.call_timeout)
        problems: list[RegistryError] = []
        for _ in addresses:
            address = addresses[self._turn % len(addresses)]
            try:
                async with asyncio.timeout(seconds):
                    self._connection = await self._connect_to(address)
                    return self._connection
            except RegistryError as error:
                problems.append(error)
            except TimeoutError:
                problems.append(Unavailable(f"nacos at {_joined(address, 0)} gives no answer within {seconds:g} s"))
            self._turn += 1
        raise problems[0] if len(problems) == 1 else Unavailable("; ".join(map(str, problems)))

    async def _connect_to(self, address: Address) -> Connection:
        where = f"nacos at {_joined(address, 0)}"
        offset = int(self._target.number("grpc_offset"))
        server = Server(_joined(address, offset), where, self._credentials(), await _own_address(address, where))
        setup = {
            "clientVersion": VERSION,
            "tenant": "",
            "labels": {"source": "sdk", "module": self._module},
            "module": "internal",
        }
        return await Connection.connect(server, setup, self._pushed)

    async def ask(
        self,
        kind: str,
        body: Mapping[str, Any] | msgspec.Struct,
        answer: type[A],
        *,
        accept: Collection[int] = (),
        on: Connection | None = None,
    ) -> A:
        """The answer to a request. Raises `Denied`, `Refused` or `Unavailable`.

        An answer with an error code of ``accept`` is returned like a good one. With ``on`` it is asked on this connection and no other.
        """
        try:
            async with asyncio.timeout(self.call_timeout):
                connection = on if on is not None else await self.connection()
                return await self._ask(connection, kind, msgspec.json.encode(body), answer, accept)
        except TimeoutError as error:
            if isinstance(error, RegistryError):
                raise
            raise DeadlineExceeded(f"{self.where} has not answered {kind} within {self.call_timeout:g} s") from None
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self.where} answers {kind} with what cannot be read: {error}") from None

    async def _ask(self, connection: Connection, kind: str, body: bytes, answer: type[A], accept: Collection[int]) -> A:
        token = await self._access.token()
        said = await self._exchange(connection, kind, body, answer, token)
        if said.error_code == FORBIDDEN and (other := await self._access.other(token)):
            said = await self._exchange(connection, kind, body, answer, other)
        if said.result_code == 200 or said.error_code in accept:
            return said
        if said.error_code == UNREGISTERED:
            connection.drop(Unavailable(f"{self.where} does not know this connection any more"))
            raise connection.why
        raise refusal(said, self.where, kind)

    async def _exchange(self, connection: Connection, kind: str, body: bytes, answer: type[A], token: str) -> A:
        headers = {"accessToken": token} if token else {}
        return msgspec.json.decode(await connection.exchange(kind, body, headers), type=answer)

    async def fetch(self, path: str, query: Mapping[str, str]) -> bytes | None:
        """What the HTTP interface has under a path; None if nothing. Raises `Denied`, `Refused` or `Unavailable`."""
        try:
            async with asyncio.timeout(self.call_timeout):
                reply = await self._fetch(path, query)
        except TimeoutError as error:
            if isinstance(error, RegistryError):
                raise
            raise DeadlineExceeded(f"{self.where} has not answered {path} within {self.call_timeout:g} s") from None
        if reply.status in ABSENT:
            return None
        if reply.status != OK:
            raise refusal(_said(reply), reply.where, path)
        return reply.body

    async def _fetch(self, path: str, query: Mapping[str, str]) -> Reply:
        if self._closed:
            raise Closed(f"{self.where}: it is not open")
        token = await self._access.token()
        reply = await self._web.get(path, query, token)
        if reply.status == FORBIDDEN and (other := await self._access.other(token)):
            reply = await self._web.get(path, query, other)
        return reply

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[Connection]:
        """The connection, for requests that have to be answered: it is dropped if one inside is not."""
        connection = await self.connection()
        try:
            yield connection
        except (Unavailable, asyncio.CancelledError):
            connection.drop(Unavailable(f"{self.where} gives no answer"))
            raise

    @property
    def logins(self) -> int:
        """How many tokens there have been; with another one, what was denied may be tried again."""
        return self._access.logins

    async def log_in(self) -> None:
        """Have a token that is good for a while, where one is needed. Raises `Denied` and `Unavailable`."""
        await self._access.token()

    async def probe(self, on: Connection) -> None:
        """Return if the server answers, and knows the connection. Raises `Unavailable`."""
        await self.ask("HealthCheckRequest", {}, wire.Answer, on=on)

    def _uses_tls(self, also: str = "") -> bool:
        return self._target.scheme == "nacoss" and (not also or self._target.flag(also))

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._target.text("ca") or None)
        if cert := self._target.text("cert"):
            context.load_cert_chain(cert, self._target.text("key") or None)
        return context

    def _credentials(self) -> grpc.ChannelCredentials | None:
        """Read at each connect, so that certificates can be changed under a running process."""
        if not self._uses_tls():
            return None
        cert, key = self._target.text("cert"), self._target.text("key")
        try:
            return grpc.ssl_channel_credentials(
                _content(self._target.text("ca") or ssl.get_default_verify_paths().cafile),
                _content(key or cert),
                _content(cert),
            )
        except OSError as error:
            raise Unavailable(f"a certificate cannot be read: {error}") from None


def _said(reply: Reply) -> wire.Answer:
    """The refusal in a reply; its text is in JSON, in one of two forms, or is none that is meant to be read."""
    answer = wire.Answer(500, reply.status, responses.get(reply.status, ""))
    with contextlib.suppress(msgspec.MsgspecError):
        answer.message = msgspec.json.decode(reply.body, type=wire.Answer).message or answer.message
    return answer


def _content(file: str | None) -> bytes | None:
    return Path(file).read_bytes() if file else None


def _joined(address: Address, offset: int) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port + offset}"


async def _own_address(address: Address, where: str) -> str:
    """The address from which this machine reaches the server. Nothing is sent."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise Unavailable(f"{where}: the name cannot be resolved: {error}") from None
    family, kind, protocol, _, place = found[0]
    with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])
    return "127.0.0.1"
