"""One server, and what can be done to it."""

from __future__ import annotations

import time
from typing import NoReturn, Self
from urllib.parse import urlsplit, urlunsplit

from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.services.product import Product

ABILITIES = frozenset({"kill", "restart", "pause", "wipe"})
_PROBE_SECONDS = 1.0


class ServiceError(Exception):
    """A server did not start, did not answer, or cannot do what was asked of it."""


class ServiceUnavailable(ServiceError):
    """No server was found and none could be started; the text says why, `remedy` how to get one."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"no {name} server: {reason}. To get one: {remedy}")
        self.name = name
        self.reason = reason
        self.remedy = remedy


class Service:
    """A running server at `url`; `origin` says where it came from.

    `abilities` names what may be done to it: "kill" (`kill`), "restart" (`stop`, `start`, `restart`), "pause"
    (`pause`, `resume`), "wipe" (`wipe`). A verb outside them raises `ServiceError`. This class itself has
    none: it is a server that belongs to somebody else.
    """

    abilities: frozenset[str] = frozenset()

    def __init__(self, product: Product, host: str, port: int, *, origin: str, url: str = "") -> None:
        self.product = product
        self.name: str = product.name
        self.host = host
        self.port = port
        self.origin = origin
        self._url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.name} at {self.host}:{self.port}, {self.origin}>"

    @property
    def url(self) -> str:
        """The URL to open, without a path where the server is our own."""
        user = f"{self.product.user}@" if self.product.user else ""
        return self._url or f"{self.product.scheme}://{user}{self.host}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as `NetProxy` takes them."""
        return self.host, self.port

    def proxy(self) -> NetProxy:
        """A new proxy on this machine to all ports that clients use; to be closed by the caller."""
        return NetProxy(self.address, offsets=self.product.offsets)

    def url_through(self, proxy: NetProxy) -> str:
        """`url`, by way of the proxy."""
        parts = urlsplit(self.url)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@{proxy.address}" if user else proxy.address))

    def kill(self) -> None:
        """SIGKILL, without any chance to clean up; returns when the server is dead."""
        self._refuse("kill")

    def stop(self) -> None:
        """Ask the server to end and wait until it has."""
        self._refuse("stop")

    def start(self) -> None:
        """The server runs and answers when this returns, on its old port and data, even if it was frozen."""
        self._refuse("start")

    def restart(self) -> None:
        """`stop`, then `start`."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open and new ones are accepted, but nobody answers."""
        self._refuse("pause")

    def resume(self) -> None:
        """End a `pause`; returns when the server answers."""
        self._refuse("resume")

    def wipe(self) -> None:
        """Kill the server, throw its data away and start it empty, on the same port."""
        self._refuse("wipe")

    def close(self) -> None:
        """End the server and remove its data; nothing on a second call, and nothing if it is not our own."""

    def check_alive(self) -> str:
        """Nothing if the server answers its own protocol within a second, or else what it does instead."""
        return self.product.probe(self.host, self.port, _PROBE_SECONDS)

    def _await_answer(self) -> None:
        timeout = self.product.start_seconds
        deadline = time.monotonic() + timeout
        while trouble := self.check_alive():
            self._check_running()
            if time.monotonic() > deadline:
                message = f"{self!r} did not answer within {timeout:g} s: {trouble}{self._log_tail()}"
                raise ServiceError(message)
            time.sleep(0.02)
        self._check_running()

    def _check_running(self) -> None:
        """Raise if the server is known to have ended."""

    def _log_tail(self) -> str:
        return ""

    def _refuse(self, verb: str) -> NoReturn:
        message = f"{self!r} is not ours to {verb}; ask for a server of your own: the fixture own_{self.name}"
        raise ServiceError(message)
