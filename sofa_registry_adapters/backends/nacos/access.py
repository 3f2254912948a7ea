"""Who we are: a token for a user and a password, fetched over HTTP and renewed in time. Nothing of it is ever logged."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import urllib.parse
from collections.abc import Callable, Sequence

import msgspec

from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Address, Target
from sofa_registry_adapters.spi.worker import Worker

PATHS = ("/v1/auth/users/login", "/v3/auth/user/login")
"""Both lines have the first one; the second is what line 3 may be left with."""
ABSENT = frozenset((404, 405, 410, 501))
"""What a server says that has no such path."""
RENEW_AT = 0.8
"""The part of its life-time after which a token is renewed."""
FRESH = 1.0
"""Seconds in which a token that is refused is not to blame, so that nobody logs in again and again."""
MOST_BYTES = 65536


class _Granted(msgspec.Struct, rename="camel"):
    access_token: str
    token_ttl: float = 18000.0


class Access:
    """The token of one user. Without credentials there is none, and nothing is asked for."""

    def __init__(self, target: Target, clock: Clock, tls: Callable[[], ssl.SSLContext] | None) -> None:
        self._user = target.username
        self._password = target.password
        self._addresses: Sequence[Address] = target.addresses
        self._context = target.text("context").rstrip("/")
        self._timeout = target.number("call_timeout")
        self._clock = clock
        self._tls = tls
        self._lock = asyncio.Lock()
        self._token = ""
        self._since = 0.0
        self._renew_at = 0.0
        self._ends_at = 0.0

    @property
    def needed(self) -> bool:
        """Whether the URL has credentials."""
        return bool(self._user or self._password)

    async def token(self) -> str:
        """A token that is good for a while; empty where none is needed. Raises `Denied` and `Unavailable`."""
        if not self.needed or self._clock.monotonic() < self._renew_at:
            return self._token
        return await self._renewed(self._token)

    async def other(self, refused: str) -> str:
        """A token other than the one that was just refused; empty if that one is too young to be the reason."""
        if not self.needed or (refused == self._token and self._clock.monotonic() < self._since + FRESH):
            return ""
        self._ends_at = self._renew_at = 0.0
        return await self._renewed(refused)

    async def _renewed(self, known: str) -> str:
        async with self._lock:
            if self._token != known and self._clock.monotonic() < self._renew_at:
                return self._token
            try:
                granted = await self._log_in()
            except Unavailable:
                if self._clock.monotonic() < self._ends_at:
                    return self._token
                raise
            now = self._clock.monotonic()
            self._token, self._since = granted.access_token, now
            self._renew_at = now + granted.token_ttl * RENEW_AT
            self._ends_at = now + granted.token_ttl
            return self._token

    async def _log_in(self) -> _Granted:
        problem: RegistryError = Unavailable("no server was asked for a token")
        worker = Worker("sofa-registry-nacos-login")
        try:
            for address in self._addresses:
                try:
                    return await worker.run(self._ask, address)
                except Unavailable as error:
                    problem = error
        finally:
            worker.stop()
        raise problem

    def _ask(self, address: Address) -> _Granted:
        """One server, on a thread of its own."""
        where = f"nacos at {address.host}:{address.port}"
        for path in PATHS:
            try:
                status, body = self._post(address, self._context + path)
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"{where} gives no token: {type(error).__name__}: {error}") from None
            if status in ABSENT:
                continue
            return self._read(where, status, body)
        # Without the plug-in for authentication there is no such path, and no token is needed.
        return _Granted("", self._timeout)

    def _post(self, address: Address, path: str) -> tuple[int, bytes]:
        if self._tls is None:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=self._timeout)
        else:
            context = self._tls()
            connection = http.client.HTTPSConnection(address.host, address.port, timeout=self._timeout, context=context)
        # In the body, since a server logs the path.
        form = urllib.parse.urlencode({"username": self._user, "password": self._password})
        try:
            connection.request("POST", path, form, {"Content-Type": "application/x-www-form-urlencoded"})
            response = connection.getresponse()
            return response.status, response.read(MOST_BYTES)
        finally:
            connection.close()

    def _read(self, where: str, status: int, body: bytes) -> _Granted:
        if status in (401, 403):
            raise Denied(f"{where} refuses the user {self._user!r}: check the user and the password in the URL")
        try:
            return msgspec.json.decode(body, type=_Granted)
        except msgspec.MsgspecError:
            raise Unavailable(f"{where} gives no token: it answers the login with the status {status}") from None
