"""A user and a password that a server does not take: the same are not shown to it again at once."""

from __future__ import annotations

import asyncio

from sofa_registry_adapters.backends.etcd.failures import again
from sofa_registry_adapters.errors import Denied
from sofa_registry_adapters.spi.options import Login

AGAIN = 0.5
"""Least seconds between two attempts; later a quarter of the time that this goes on."""
MOST_AGAIN = 15.0


class Refusals:
    """What was said to the last ones.

    Checking a password costs a server a tenth of a second of its processor, and all verbs, watches and renewals of a Registry need the one token that all
    of them share. The engine paces each of these by itself; both times are half of what it waits after a refusal when it connects.
    """

    def __init__(self) -> None:
        self._login = Login()
        self._error: Denied | None = None
        self._since = 0.0
        self._until = 0.0

    def check(self, login: Login) -> None:
        """Raise what was said to the same a moment ago."""
        if self._error is not None and login == self._login and _now() < self._until:
            raise again(self._error)

    def note(self, login: Login, error: Denied) -> None:
        """The server does not take them."""
        now = _now()
        if self._error is None or login != self._login:
            self._since = now
        self._login, self._error = login, error
        self._until = now + min(max(AGAIN, (now - self._since) / 4), MOST_AGAIN)

    def forget(self) -> None:
        """The server took them."""
        self._login, self._error = Login(), None


def _now() -> float:
    return asyncio.get_running_loop().time()
