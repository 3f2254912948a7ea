"""Servers of our own that speak TLS: ZooKeeper, Redis, etcd and Nacos, with certificates of a throw-away `Authority`.

ZooKeeper speaks it on a second port, the one after `Service.port`, Nacos on its port for gRPC only.
"""

from __future__ import annotations

import dataclasses
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from sofa_registry_adapters.testing.faults.authority import Authority, Pair
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.service import ServiceUnavailable


class Papers(msgspec.Struct, frozen=True):
    """What a server shows, whom it believes, and whether it asks clients for a certificate. The files are read at each start."""

    authority: Authority
    pair: Pair
    demanding: bool = False


def secured(name: str, papers: Papers) -> LocalService:
    """A server that speaks TLS, to be closed by the caller. Raises `ServiceUnavailable`."""
    product = PRODUCTS[name]
    found = product.local()
    obstacle = "" if Authority.possible() else "no openssl on the PATH"
    if isinstance(found, str) or obstacle:
        raise ServiceUnavailable(name, obstacle or str(found), product.remedy)
    own_probe = name in {"zookeeper", "nacos"}
    own = dataclasses.replace(
        product,
        name=f"{name}-tls",
        scheme=f"{product.scheme}s",
        probe=product.probe if own_probe else _shakes_hands(papers),
        offsets=(0, 1) if name == "zookeeper" else product.offsets,
    )
    prepare = found

    def prepare_secured(directory: Path, port: int, persistent: bool) -> Sequence[str]:  # noqa: FBT001
        return _COMMANDS[name](papers, prepare(directory, port, persistent), port)

    return LocalService(own, prepare_secured, persistent=False)


def _shakes_hands(papers: Papers) -> Callable[[str, int, float], str]:
    def probe(host: str, port: int, timeout: float) -> str:
        context = ssl.create_default_context(cafile=str(papers.authority.ca))
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*papers.authority.issue("probe"))
        try:
            with socket.create_connection((host, port), timeout) as plain, context.wrap_socket(plain):
                return ""
        except OSError as error:
            return f"{type(error).__name__}: {error}"

    return probe


def _redis(papers: Papers, command: Sequence[str], port: int) -> Sequence[str]:
    files = ("--tls-cert-file", papers.pair.cert, "--tls-key-file", papers.pair.key)
    trust = ("--tls-ca-cert-file", papers.authority.ca, "--tls-auth-clients", "yes" if papers.demanding else "no")
    return [str(word) for word in (*command, "--port", "0", "--tls-port", port, *files, *trust)]


def _etcd(papers: Papers, command: Sequence[str], port: int) -> Sequence[str]:
    plain = f"http://127.0.0.1:{port}"
    words = [word.replace(plain, plain.replace("http:", "https:")) for word in command]
    files = (f"--cert-file={papers.pair.cert}", f"--key-file={papers.pair.key}")
    trust = (f"--trusted-ca-file={papers.authority.ca}", f"--client-cert-auth={str(papers.demanding).lower()}")
    return [*words, *files, *trust]


def _zookeeper(papers: Papers, command: Sequence[str], port: int) -> Sequence[str]:
    configuration = Path(command[-1])
    shown = configuration.with_name("server.pem")
    shown.write_bytes(papers.pair.key.read_bytes() + papers.pair.cert.read_bytes())
    clients = "need" if papers.demanding else "none"
    with configuration.open("a") as file:
        file.write(_ZOOKEEPER.format(port=port + 1, shown=shown, ca=papers.authority.ca, clients=clients))
    return command


def _nacos(papers: Papers, command: Sequence[str], _: int) -> Sequence[str]:
    home = next(word.partition("=")[2] for word in command if word.startswith("-Dnacos.home="))
    files = {"certChainFile": papers.pair.cert, "certPrivateKey": papers.pair.key}
    trust = {"mutualAuthEnable": "true", "trustCollectionCertFile": f"file:{papers.authority.ca}"}
    settings = {"enableTls": "true", "compatibility": "false", **{name: f"file:{file}" for name, file in files.items()}}
    with Path(home, "conf", "application.properties").open("a") as file:
        file.writelines(
            f"nacos.remote.server.rpc.tls.{name}={value}\n"
            for name, value in (settings | (trust if papers.demanding else {})).items()
        )
    return command


_ZOOKEEPER = """\
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
secureClientPort={port}
secureClientPortAddress=127.0.0.1
ssl.keyStore.location={shown}
ssl.keyStore.type=PEM
ssl.trustStore.location={ca}
ssl.trustStore.type=PEM
ssl.clientAuth={clients}
ssl.hostnameVerification=false
"""
_COMMANDS: Mapping[str, Callable[[Papers, Sequence[str], int], Sequence[str]]] = {
    "zookeeper": _zookeeper,
    "redis": _redis,
    "etcd": _etcd,
    "nacos": _nacos,
}
