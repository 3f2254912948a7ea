"""Who we are: a token for a user and a password, fetched over HTTP and renewed in time. No log has the password or the token in it.

The pauses between logins are here and not in the engine: that knows verbs, each of which may need a token, and not when one is fetched.
Without a pause of their own all verbs and watches of a Registry would have the server check a wrong password, each at its own pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from sofa_registry_adapters.backends.nacos.web import Reply, Web
from sofa_registry_adapters.errors import Denied, Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.logging_in import present_login
from sofa_registry_adapters.spi.options import Target

logger = logging.getLogger("sofa_registry_adapters.nacos")

PATHS = ("/v3/auth/user/login", "/v1/auth/users/login")
"""That of line 3, and that of line 2."""
ABSENT = frozenset((404, 405, 410, 501))
"""What a server says that has no such path."""
OK = 200
RENEW_AT = 0.8
"""The part of its life-time after which a token is renewed."""
FRESH = 1.0
"""Seconds in which a new token that is refused is not to blame; twice as many after each that was fetched for this reason."""
MOST_FRESH = 300.0
AGAIN = 1.0
"""Seconds after a login that was refused before the next one; later a quarter of the time that this goes on."""
MOST_AGAIN = 30.0
STARTING = 10.0
"""Seconds of refusals for which a server that was away, or took the login before, may just have started.

It answers before it has read its users, and refuses everybody meanwhile, in the words it has for a wrong password: 2.6 s with 3.1.
"""
REFUSED = frozenset((401, 403, 500))
"""What a server says to a wrong password: one of line 3 without its console has an internal error then."""
WITHOUT = 300.0
"""Seconds after which a server without accounts is asked again."""
PATIENCE = 1.0
"""Seconds that a login may take while the token is still good: requests wait for it that need no other one."""
LATER = 5.0
"""Seconds after a login that failed before the next one, while the token is still good."""


class _Granted(msgspec.Struct, rename="camel"):
    access_token: str
    token_ttl: float = 18000.0

    def __repr__(self) -> str:
        return f"<token for {self.token_ttl:g} s>"


class Access:
    """The token of one user. Without credentials there is none, and nothing is asked for."""

    def __init__(self, target: Target, clock: Clock, web: Web) -> None:
        self._target = target
        self._clock = clock
        self._web = web
        self._patience = min(PATIENCE, target.number("call_timeout") / 3)
        self._lock = asyncio.Lock()
        self._token = ""
        self._since = 0.0
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._fresh = FRESH
        self._may_be_starting = False
        self._refusal: Denied | Unavailable | None = None
        self._refused_since = 0.0
        self._refused_until = 0.0
        self._kept = False
        self.logins: int = 0
        """How many tokens there have been."""

    @property
    def needed(self) -> bool:
        """Whether the URL has credentials."""
        return self._target.identified

    async def token(self) -> str:
        """A token that is good for a while; empty where none is needed. Raises `Denied` and `Unavailable`."""
        if not self.needed or self._clock.monotonic() < self._renew_at:
            return self._token
        return await self._renewed()

    async def other(self, refused: str) -> str:
        """A token other than the one that was just refused; empty if that one is too young to be the reason."""
        now = self._clock.monotonic()
        if not self.needed or (refused == self._token and now < self._since + self._fresh):
            return ""
        if refused == self._token:
            self._ends_at = self._renew_at = 0.0
            self._fresh = min(self._fresh * 2, MOST_FRESH)
        return await self._renewed()

    async def _renewed(self) -> str:
        async with self._lock:
            # Somebody else may have had it renewed, or tried, while this one waited.
            if self._clock.monotonic() < self._renew_at:
                return self._token
            if self._refusal is not None and self._clock.monotonic() < self._refused_until:
                raise self._refusal.about(frozenset())
            try:
                granted = await self._log_in_soon()
            except Unavailable as error:
                self._may_be_starting, self._refusal = True, None
                self._keep(error)
            except Denied as error:
                self._keep(self._noted(error))
            else:
                self._take(granted)
            return self._token

    def _keep(self, failure: Denied | Unavailable) -> None:
        """Go on with the token that there is, while it is good; the next login is after a while. Raises the failure when it is over."""
        if (now := self._clock.monotonic()) >= self._ends_at:
            raise failure from None
        if not self._kept:
            # It was taken for granted until now, and nobody else is told before the token ends.
            logger.warning("%s; the token that there is goes on for %.0f s", failure, self._ends_at - now)
        self._kept = True
        self._renew_at = self._refused_until = min(max(now + LATER, self._refused_until), self._ends_at)

    def _take(self, granted: _Granted) -> None:
        now = self._clock.monotonic()
        if self._renew_at:
            self._fresh = FRESH
        self._token, self._since, self._refusal, self._kept = granted.access_token, now, None, False
        self._may_be_starting = True
        self._renew_at = now + granted.token_ttl * RENEW_AT
        self._ends_at = now + granted.token_ttl
        self.logins += 1

    def _noted(self, error: Denied) -> Denied | Unavailable:
        """What to raise for this refusal, and until the next login.

        Whoever has a wrong password does not try it again and again: checking one costs a server a tenth of a second.
        """
        now = self._clock.monotonic()
        if self._refusal is None:
            self._refused_since = now
        self._refused_until = now + min(max(AGAIN, (now - self._refused_since) / 4), MOST_AGAIN)
        if self._may_be_starting and now < self._refused_since + STARTING:
            self._refusal = Unavailable(f"{error}; a server that has just started refuses everybody for some seconds")
        else:
            self._may_be_starting, self._refusal = False, error
        return self._refusal

    async def _log_in_soon(self) -> _Granted:
        """While the token is good, no login that hangs holds up whoever has something else to do."""
        patience = self._patience if self._clock.monotonic() < self._ends_at else None
        try:
            async with asyncio.timeout(patience):
                return await self._log_in()
        except TimeoutError:
            raise Unavailable(f"a login gets no answer within {self._patience:g} s") from None

    async def _log_in(self) -> _Granted:
        login = await present_login(self._target)
        for path in PATHS:
            reply = await self._web.post(path, {"username": login.username, "password": login.password})
            if reply.status not in ABSENT:
                return self._read(reply, login.username)
        # Without the plug-in for authentication there is no such path, and no token is needed.
        return _Granted("", WITHOUT)

    @staticmethod
    def _read(reply: Reply, user: str) -> _Granted:
        if reply.status in REFUSED:
            raise Denied(f"{reply.where} refuses the user {user!r}: check the user and the password")
        with contextlib.suppress(msgspec.MsgspecError):
            if reply.status == OK:
                return msgspec.json.decode(reply.body, type=_Granted)
        raise Unavailable(f"{reply.where} gives no token: it answers the login with the status {reply.status}")
