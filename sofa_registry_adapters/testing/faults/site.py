"""A registry that is there to be hurt: its server, and the line of each client to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import NoReturn, Self

from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.proxy import NetProxy


class Site:
    """Derive from it, override what can be done to the server, and name that in ``abilities``.

    A client that is given its URL by `url_of` has a line of its own, which `line` finds, if ``lines`` is true. ``options`` are
    those that every client needs. A verb returns when it is done.
    """

    abilities: frozenset[str] = frozenset()
    lines: bool = False
    keeps_data: bool = True
    """Whether a server that is killed and started has its records again."""
    outage: float = 0.0
    """Seconds that a server which was killed needs at least until it answers again."""

    def __init__(self, url: str, options: Mapping[str, Value] | None = None) -> None:
        self.url = url
        """Where it is, past all lines."""
        self.options: dict[str, Value] = dict(options or {})
        self._lines: dict[str, NetProxy] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def credentials(self) -> Callable[[], tuple[str, str]] | None:
        """What every client logs in with, as `Registry` takes it; None where nobody has to."""
        return None

    def url_of(self, client: str) -> str:
        """The URL for a client, through a line of its own where there are any."""
        return self._url_through(self.line(client)) if self.lines else self.url

    def line(self, client: str) -> NetProxy:
        """The line of a client, the same each time."""
        if not self.lines:
            self._cannot("break the lines of single clients")
        with self._lock:
            if client not in self._lines:
                self._lines[client] = self._new_line()
            return self._lines[client]

    def kill(self) -> None:
        """The server is dead, without any chance to clean up: connections end, new ones are refused."""
        self._cannot("kill")

    def start(self) -> None:
        """After `kill` or `stop`: it answers again, with the data that it keeps on disk."""
        self._cannot("start")

    def stop(self) -> None:
        """The server ends as it does when it is asked to."""
        self._cannot("stop")

    def pause(self) -> None:
        """The server hangs: connections stay open, nobody answers."""
        self._cannot("pause")

    def resume(self) -> None:
        """After `pause`: it goes on where it was."""
        self._cannot("resume")

    def wipe(self) -> None:
        """The server dies and comes back without any data."""
        self._cannot("wipe")

    def forget(self) -> None:
        """All data is deleted, while connections and leases stay."""
        self._cannot("forget")

    def expire(self) -> None:
        """Every lease, or session, is over, though their owners live."""
        self._cannot("expire")

    def hang_up(self) -> None:
        """The server closes the connections of its clients."""
        self._cannot("hang_up")

    def compact(self) -> None:
        """The server drops the history that a watch could be resumed from."""
        self._cannot("compact")

    def deny(self) -> None:
        """The server takes away all rights of the user that clients log in as."""
        self._cannot("deny")

    def allow(self) -> None:
        """After `deny`: it gives them back."""
        self._cannot("allow")

    def version(self) -> str:
        """The server's version; empty where it cannot be asked."""
        return ""

    def counts(self) -> Mapping[str, int]:
        """What the server holds for its clients: watches, leases, connections, as far as the product can say."""
        return {}

    @property
    def links(self) -> int:
        """Connections on all lines at this moment."""
        with self._lock:
            return sum(line.connections for line in self._lines.values())

    def heal(self) -> None:
        """Every line carries again."""
        with self._lock:
            lines = tuple(self._lines.values())
        for line in lines:
            line.pass_through()

    def close(self) -> None:
        """The lines end, and the server if it is the site's own."""
        with self._lock, contextlib.ExitStack() as closing:
            for line in self._lines.values():
                closing.callback(line.close)
            self._lines.clear()

    def _new_line(self) -> NetProxy:
        self._cannot("have lines")

    def _url_through(self, line: NetProxy) -> str:
        self._cannot("have lines")

    def _cannot(self, verb: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} cannot {verb}")
