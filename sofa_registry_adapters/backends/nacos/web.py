"""Nacos' HTTP interface, beside gRPC: logins, and what gRPC does not offer."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import urllib.parse
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.options import Address, Target
from sofa_registry_adapters.spi.worker import Worker

AT_ONCE = 8
"""Requests, and so threads, at a time."""
MOST_BYTES = 64_000_000
"""No answer is as large as that: a page of 500 values of the largest kind is not asked for."""
FORM = "application/x-www-form-urlencoded"
SILENCE = 2.0
"""Seconds for which a server may be silent before the next one is asked; with many servers less, so that all have a turn.

No repetition: one request, and which of the servers takes it. The engine knows of one place only, and could not ask another.
"""


class _Request(NamedTuple):
    method: str
    path: str
    body: str | None
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        # A login has the password in it, and others the token.
        return f"<{self.method}>"


class Reply(NamedTuple):
    """What a server answered."""

    where: str
    status: int
    body: bytes

    def __repr__(self) -> str:
        # That to a login has a token in it.
        return f"<Reply {self.status} of {self.where}, {len(self.body)} bytes>"


class Web:
    """Requests to the server that answered last, or the next one that does. Each has a connection of its own, on a daemon thread."""

    def __init__(self, target: Target, tls: Callable[[], ssl.SSLContext] | None) -> None:
        self._addresses = target.addresses
        self._context = target.text("context").rstrip("/")
        self._timeout = target.number("call_timeout")
        self._silence = min(SILENCE, 0.9 * self._timeout / max(1, len(target.addresses)))
        self._begin = 0
        self._tls = tls
        self._places = asyncio.Semaphore(AT_ONCE)
        self._idle: list[Worker] = []
        self._closed = False

    async def get(self, path: str, query: Mapping[str, str], token: str) -> Reply:
        """Read. Raises `Unavailable`; the caller bounds it."""
        headers = {"accessToken": token} if token else {}
        return await self._ask(_Request("GET", f"{path}?{urllib.parse.urlencode(query)}", None, headers))

    async def post(self, path: str, form: Mapping[str, str]) -> Reply:
        """Send a form: in the body, since a server logs the path. Raises `Unavailable`; the caller bounds it."""
        return await self._ask(_Request("POST", path, urllib.parse.urlencode(form), {"Content-Type": FORM}))

    def close(self) -> None:
        """Let the threads end. Requests may be made afterwards."""
        self._closed = True
        while self._idle:
            self._idle.pop().stop()

    async def _ask(self, request: _Request) -> Reply:
        self._closed = False
        async with self._places:
            worker = self._idle.pop() if self._idle else Worker("sofa-registry-nacos-web")
            try:
                reply = await self._first(worker, request)
            except BaseException:
                # It may be stuck in a call that nobody waits for any more.
                worker.stop()
                raise
            if self._closed:
                worker.stop()
            else:
                self._idle.append(worker)
            return reply

    async def _first(self, worker: Worker, request: _Request) -> Reply:
        problem = Unavailable("the URL names no server")
        begin, count = self._begin, len(self._addresses)
        for number in range(count):
            turn = (begin + number) % count
            # After the last one there is nobody else to ask.
            silence = self._silence if number < count - 1 else self._timeout
            try:
                reply = await worker.run(self._send, self._addresses[turn], silence, request)
            except (Unavailable, asyncio.CancelledError) as error:
                # Whoever gave up waiting would find the same server silent again.
                self._begin = (turn + 1) % count
                if not isinstance(error, Unavailable):
                    raise
                problem = error
            else:
                self._begin = turn
                return reply
        raise problem

    def _send(self, address: Address, silence: float, request: _Request) -> Reply:
        """One request to one server, on a thread of its own. It may be silent for so many seconds."""
        where = f"nacos at {address.host}:{address.port}"
        try:
            connection = self._connection(address, silence)
            try:
                connection.request(request.method, self._context + request.path, request.body, dict(request.headers))
                response = connection.getresponse()
                return Reply(where, response.status, response.read(MOST_BYTES))
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{where} gives no answer over HTTP: {type(error).__name__}: {error}") from None

    def _connection(self, address: Address, silence: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(address.host, address.port, timeout=silence)
        return http.client.HTTPSConnection(address.host, address.port, timeout=silence, context=self._tls())
