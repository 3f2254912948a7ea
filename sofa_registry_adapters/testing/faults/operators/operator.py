"""The verbs of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

VERBS = frozenset({"forget", "expire", "hang_up", "compact"})


class Operator:
    """Derive from it, override what the product's operator can do, and name that in ``abilities``."""

    abilities: frozenset[str] = frozenset()

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def forget(self) -> None:
        """Delete all data, of all clients; connections and leases stay."""
        self._cannot("forget")

    def expire(self) -> None:
        """End every lease, or session, though their owners live."""
        self._cannot("expire")

    def hang_up(self) -> None:
        """Close the connections of clients, from the server's side."""
        self._cannot("hang_up")

    def compact(self) -> None:
        """Drop the history that a watch could be resumed from."""
        self._cannot("compact")

    def version(self) -> str:
        """The server's version; empty where it cannot be asked."""
        return ""

    def counts(self) -> Mapping[str, int]:
        """What the server holds for its clients: connections, watches, leases, whatever the product can say.

        ``records`` is one for each instance that is published, and nothing else.
        """
        return {}

    def _cannot(self, verb: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} cannot {verb}")
