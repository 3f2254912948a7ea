"""One server of several, and the verbs for all of them at once."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sofa_registry_adapters.testing.faults.operators.redis import RedisOperator
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.product import Prepare, Product
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.secured import Papers
from sofa_registry_adapters.testing.services.service import ABILITIES, Service, ServiceError, ServiceUnavailable

LOOK_SECONDS = 0.05
BUS, TLS = 1, 2
"""Distances of further ports of a server from its own."""


def member(lines: Callable[[int], Sequence[str]], *words: str, papers: Papers | None = None) -> LocalService:
    """A server with a configuration file of its own, which it may write itself: what it was told last outlives its restart.

    ``lines`` are those of the file, for a port; ``words`` come behind it on the command line. With ``papers`` it speaks TLS as
    well, on the port that is `TLS` after its own. The port that is `BUS` after it is free for it, too.
    """
    redis = PRODUCTS["redis"]
    product = Product(
        name=redis.name,
        scheme=redis.scheme,
        port=redis.port,
        package=redis.package,
        image=redis.image,
        probe=redis.probe,
        local=redis.local,
        inner_offsets=(BUS, TLS),
    )

    def all_lines(port: int) -> Sequence[str]:
        return (*lines(port), *(_encrypting(papers, port) if papers is not None else ()))

    return LocalService(product, _preparing(all_lines, words), persistent=False)


def _encrypting(papers: Papers, port: int) -> Sequence[str]:
    return (
        f"tls-port {port + TLS}",
        f"tls-cert-file {papers.pair.cert}",
        f"tls-key-file {papers.pair.key}",
        f"tls-ca-cert-file {papers.authority.ca}",
        f"tls-auth-clients {'yes' if papers.demanding else 'no'}",
        "tls-replication yes",
    )


def _preparing(lines: Callable[[int], Sequence[str]], words: Sequence[str]) -> Prepare:
    def prepare(directory: Path, port: int, _: bool) -> Sequence[str]:  # noqa: FBT001
        file = directory / f"{port}.conf"
        if not file.exists():
            place = ("bind 127.0.0.1", f"port {port}", f"dir {directory}")
            file.write_text("".join(f"{line}\n" for line in (*place, *lines(port))))
        return ["redis-server", str(file), *words]

    return prepare


def ask(server: Service, *words: str) -> object:
    """The answer to one command. Raises `OSError`, also if the server says no."""
    return RedisOperator(server.host, server.port).ask(*words)


def told(server: Service, *words: str) -> Mapping[str, str]:
    """The lines ``name:value`` of an answer; none from a server that does not answer."""
    try:
        lines = str(ask(server, *words)).splitlines()
    except OSError:
        return {}
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def until(whole: Callable[[], str], seconds: float) -> None:
    """Wait until nothing is said to be missing. Raises `ServiceError` with what is."""
    deadline = time.monotonic() + seconds
    while missing := whole():
        if time.monotonic() > deadline:
            message = f"after {seconds:g} s {missing}"
            raise ServiceError(message)
        time.sleep(LOOK_SECONDS)


class RedisSet(Service):
    """Several servers that are one registry. ``nodes`` have the records; a verb is done to all of them.

    Killed nodes have lost their records when they start again.
    """

    abilities = ABILITIES
    seconds = 40.0
    """Within these all is as it should be again, after whatever was done."""

    def __init__(self, product: Product, papers: Papers | None = None) -> None:
        if isinstance(found := product.local(), str):
            raise ServiceUnavailable("redis", found, PRODUCTS["redis"].remedy)
        super().__init__(product, "127.0.0.1", 0, origin="local programs")
        self.nodes: list[LocalService] = []
        self.papers = papers
        self._told = TLS if papers is not None else 0
        """How far the port by which others know a server is from its own."""
        atexit.register(self.close)

    def _addresses(self, servers: Sequence[LocalService]) -> str:
        """Where clients find these, as a URL has it."""
        return ",".join(f"{one.host}:{one.port + self._told}" for one in servers)

    @property
    def everybody(self) -> Sequence[LocalService]:
        """All servers."""
        return self.nodes

    def writable(self) -> Sequence[LocalService]:
        """The servers that take writes now."""
        raise NotImplementedError

    def whole(self) -> str:
        """What is missing to a set in which everybody is where it should be; nothing if it is whole."""
        raise NotImplementedError

    def await_whole(self) -> None:
        """Wait until the set is `whole`."""
        until(self.whole, self.seconds)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def start(self) -> None:
        for server in self.everybody:
            server.start()
        self.await_whole()

    def pause(self) -> None:
        for node in self.nodes:
            node.pause()

    def resume(self) -> None:
        for server in self.everybody:
            server.resume()
        self.await_whole()

    def wipe(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        for server in self.everybody:
            server.close()
        atexit.unregister(self.close)

    def check_alive(self) -> str:
        return self.whole()
