"""The registries that can be hurt: a server of the test kit's own, one behind a URL, a file, a space in this process."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sofa_registry_adapters.backends.memory import space
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.settings import parse_target, scheme_of
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.operators import VERBS, operator_of
from sofa_registry_adapters.testing.faults.processes import python_process
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services import PRODUCTS, Product, Service, ServiceError, find_service
from sofa_registry_adapters.testing.services.ensembles import Ensemble, Member

IN_PROCESS = ("memory", "local")
"""Sites without a server."""
_JAVA_SECONDS = 10.0
_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(3600)
"""


class AddressSite(Site):
    """What is behind a URL: its server belongs to somebody else, but the lines to it are ours, if it is one server."""

    def __init__(self, url: str, options: Mapping[str, Value] | None = None) -> None:
        super().__init__(url, options)
        backend = Plugins().backend(scheme_of(url))
        addresses = parse_target(url, backend, self.options).addresses
        self._upstream = [(one.host, one.port or backend.default_port) for one in addresses]
        product = next((one for one in PRODUCTS.values() if one.scheme in backend.schemes), None)
        self._offsets = product.offsets if product is not None else (0,)
        # Behind a proxy a certificate has another name.
        self.lines: bool = len(self._upstream) == 1 and bool(self._upstream[0][1]) and scheme_of(url) not in backend.tls

    def _new_line(self) -> NetProxy:
        return NetProxy(self._upstream[0], offsets=self._offsets)

    def _url_through(self, line: NetProxy) -> str:
        parts = urlsplit(self.url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{line.address}").geturl()


class ServerSite(AddressSite):
    """A server of the test kit's own, which ends with the site."""

    def __init__(self, service: Service, options: Mapping[str, Value] | None = None, *, path: str = "") -> None:
        super().__init__(service.url + path, options)
        self.service = service
        self._operator = operator_of(service.product.scheme, service.host, service.port)
        verbs = {"kill": ("kill",), "restart": ("stop", "start"), "pause": ("pause", "resume"), "wipe": ("wipe",)}
        own = {verb for ability in service.abilities for verb in verbs.get(ability, ())}
        self.abilities: frozenset[str] = frozenset(own) | (VERBS & self._operator.abilities)
        self.keeps_data: bool = Plugins().backend(service.product.scheme).capabilities.persistent
        self.outage: float = _JAVA_SECONDS if service.product.start_seconds > 100 else 0.0

    def kill(self) -> None:
        self.service.kill()

    def start(self) -> None:
        self.service.start()

    def stop(self) -> None:
        self.service.stop()

    def pause(self) -> None:
        self.service.pause()

    def resume(self) -> None:
        self.service.resume()

    def wipe(self) -> None:
        self.service.wipe()

    def forget(self) -> None:
        self._operator.forget()

    def expire(self) -> None:
        self._operator.expire()

    def hang_up(self) -> None:
        self._operator.hang_up()

    def compact(self) -> None:
        self._operator.compact()

    def version(self) -> str:
        # A server that cannot be asked says it by its name.
        return self._operator.version() or self.service.product.image.name.partition(":v")[2]

    def counts(self) -> Mapping[str, int]:
        return self._operator.counts()

    def close(self) -> None:
        super().close()
        self.service.close()


class EnsembleSite(Site):
    """Three servers that are one registry; each client has a line to each of them, so that it can be told whom it reaches."""

    def __init__(self, ensemble: Ensemble, options: Mapping[str, Value] | None = None) -> None:
        super().__init__(ensemble.url, options)
        self.ensemble = ensemble
        self._of_client: dict[str, tuple[NetProxy, ...]] = {}

    def url_of(self, client: str) -> str:
        with self._lock:
            if client not in self._of_client:
                self._of_client[client] = tuple(NetProxy((one.host, one.port)) for one in self.ensemble.members)
            lines = self._of_client[client]
        return self.ensemble.url_of(line.address for line in lines)

    def reach(self, client: str, members: Sequence[Member]) -> None:
        """From now on every address that the client knows leads to one of these, as a balancer does it."""
        for member, line in zip(self.ensemble.members, self._of_client[client], strict=True):
            chosen = member if member in members else members[0]
            if line.upstream != (chosen.host, chosen.port):
                line.upstream = (chosen.host, chosen.port)
                line.refuse()
            line.pass_through()

    @property
    def links(self) -> int:
        with self._lock:
            return sum(line.connections for lines in self._of_client.values() for line in lines)

    def version(self) -> str:
        member = self.ensemble.members[0]
        return operator_of(self.url.partition(":")[0], member.host, member.port).version()

    def heal(self) -> None:
        for client in tuple(self._of_client):
            self.reach(client, self.ensemble.members)
        self.ensemble.make_whole()

    def close(self) -> None:
        super().close()
        for lines in self._of_client.values():
            for line in lines:
                line.close()
        self.ensemble.close()


class MemorySite(Site):
    """A space of this process, with its faults as those of a server."""

    abilities = frozenset({"kill", "start", "pause", "resume", "wipe", "expire", "hang_up"})

    def __init__(self, name: str, options: Mapping[str, Value] | None = None) -> None:
        super().__init__(f"memory://{name}", options)
        self._space = space(name, str(self.options.get("namespace", "")))

    def kill(self) -> None:
        self._space.partition()

    def start(self) -> None:
        self._space.heal()

    def pause(self) -> None:
        self._space.slow(3600.0)

    def resume(self) -> None:
        self._space.slow(0.0)

    def wipe(self) -> None:
        self._space.wipe()

    def expire(self) -> None:
        self._space.expire_all()

    def hang_up(self) -> None:
        self._space.partition()
        self._space.heal()

    def heal(self) -> None:
        self.start()
        self.resume()


class LocalSite(Site):
    """A file of the site's own; another process locks it, and an operator deletes it."""

    abilities = frozenset({"pause", "resume", "wipe"})

    def __init__(self, options: Mapping[str, Value] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sofa-local-"))
        self._path = self._folder / "registry.db"
        self._locked = contextlib.ExitStack()
        super().__init__(f"local://{self._path}", options)

    def pause(self) -> None:
        # Another process: one that opens and closes the file in this one would end the library's own locks.
        self._locked.enter_context(python_process(["-c", _LOCK, str(self._path)])).expect("locked")

    def resume(self) -> None:
        self._locked.close()

    def wipe(self) -> None:
        for ending in ("", "-wal", "-shm"):
            Path(f"{self._path}{ending}").unlink(missing_ok=True)

    def heal(self) -> None:
        self.resume()

    def version(self) -> str:
        return sqlite3.sqlite_version

    def close(self) -> None:
        self.resume()
        shutil.rmtree(self._folder, ignore_errors=True)


def site_of_product(product: str | Product, options: Mapping[str, Value] | None = None) -> Site:
    """A site of one's own: a server that is started for it, or ``memory``, ``local``. Raises `ServiceError`."""
    if product == "memory":
        return MemorySite("site", options)
    if product == "local":
        return LocalSite(options)
    if isinstance(product, str) and product not in PRODUCTS:
        raise ServiceError(f"no product is called {product!r}; there are {', '.join((*IN_PROCESS, *PRODUCTS))}")
    return ServerSite(find_service(product, own=True), options)
