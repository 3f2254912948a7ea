"""Servers that do not let everybody in: one that wants a login, one that speaks TLS and wants certificates."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.authority import Authority
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.services.secured import Papers, secured
from sofa_registry_adapters.testing.services.users import Accounts
from sofa_registry_adapters.testing.sites import ServerSite


class GuardedSite(ServerSite):
    """A server that wants a login. Clients log in with ``known``, which `learn` brings up to date."""

    def __init__(self, accounts: Accounts, options: Mapping[str, Value] | None = None) -> None:
        super().__init__(accounts.service, options)
        parts = urlsplit(self.url)
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.accounts = accounts
        self.known: str = accounts.password
        self.abilities |= {"deny", "allow"}

    @property
    def credentials(self) -> Callable[[], tuple[str, str]]:
        return lambda: (self.accounts.user, self.known)

    def learn(self) -> None:
        """Clients are told the password that counts."""
        self.known = self.accounts.password

    def deny(self) -> None:
        self.accounts.deny()

    def allow(self) -> None:
        self.accounts.allow()


class SecuredSite(ServerSite):
    """A server that speaks TLS and wants certificates of its clients. All files can be replaced while clients run.

    ``files`` are those that clients have: the options ``ca``, ``cert`` and ``key``.
    """

    HOST = "localhost"

    def __init__(self, name: str, options: Mapping[str, Value] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"sofa-{name}-tls-"))
        self._authorities = {name: Authority(self._folder / name) for name in ("own", "strange")}
        self.files: dict[str, Path] = {one: self._folder / f"{one}.pem" for one in ("ca", "cert", "key")}
        self.trust()
        self.carry()
        own = self._authorities["own"]
        self._papers = Papers(own, own.issue("server", f"DNS:{self.HOST}"), demanding=True)
        try:
            service = secured(name, self._papers)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        super().__init__(service, {**{one: str(file) for one, file in self.files.items()}, **(options or {})})
        self.lines = True
        port = service.port + (1 if name == "zookeeper" else 0)
        self._upstream = [(service.host, port)]
        self.url = self._named(port)

    def show(self, host: str = HOST, authority: Literal["own", "strange"] = "own", *, expired: bool = False) -> None:
        """The server is killed, and started with another certificate."""
        self.service.kill()
        made = self._authorities[authority].issue("server", f"DNS:{host}", expired=expired)
        for one, other in zip(made, self._papers.pair, strict=True):
            if one != other:
                shutil.copyfile(one, other)
        self.service.start()

    def trust(self, authority: Literal["own", "strange"] = "own") -> None:
        """Clients believe this authority, with their next connection."""
        shutil.copyfile(self._authorities[authority].ca, self.files["ca"])

    def carry(self, authority: Literal["own", "strange"] = "own") -> None:
        """Clients show a certificate of this authority, with their next connection."""
        pair = self._authorities[authority].issue("client")
        shutil.copyfile(pair.cert, self.files["cert"])
        shutil.copyfile(pair.key, self.files["key"])

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _url_through(self, line: NetProxy) -> str:
        return self._named(line.port)

    def _named(self, port: int) -> str:
        return urlsplit(self.url)._replace(netloc=f"{self.HOST}:{port}").geturl()
