"""etcd as a product of the kit: its command line, and the answer by which it is known to be ready."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from sofa_registry_adapters.testing.services.etcd.program import program
from sofa_registry_adapters.testing.services.product import Image, Prepare, Product

_PORT = 2379
_IMAGE = "quay.io/coreos/etcd"
_INSTALLED_IMAGE = "v3.4.23"


def product(version: str = "", *, options: Sequence[str] = ()) -> Product:
    """Etcd for `find_service`: the program on this machine, or, with a `version`, one that `program.build` has built.

    `options` are further words for its command line, such as ``--auth-token-ttl=1``.
    """
    line = "".join(version.split(".")[:2])
    name = f"etcd{line}"
    return Product(
        name=name,
        scheme="etcd",
        port=_PORT,
        package=f"golang, then python -m {__package__} {version}" if version else "etcd-server",
        image=Image(
            name=f"{_IMAGE}:v{version}" if version else f"{_IMAGE}:{_INSTALLED_IMAGE}",
            port=_PORT,
            command=lambda _: ["etcd", "--data-dir=/data", *_places("0.0.0.0", _PORT), *options],  # noqa: S104 - a container
        ),
        probe=probe,
        local=functools.partial(_local, version, tuple(options), f"SOFA_TEST_{name.upper()}_BINARY"),
    )


def probe(host: str, port: int, timeout: float) -> str:
    """`/health`: true once there is a leader, whether a login is wanted or not."""
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse().read(4096)
        healthy = json.loads(answer).get("health") == "true"
    except (OSError, HTTPException, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if healthy else f"it answered /health with {answer[:80]!r}"


def _local(version: str, options: Sequence[str], variable: str) -> Prepare | str:
    given = os.environ.get(variable, "")
    chosen = given or (str(program(version)) if version else "etcd")
    if shutil.which(chosen) is None:
        if given:
            return f"{variable} names {given!r}, which is no program"
        return f"etcd {version} is not built, nor in {variable}" if version else f"no etcd on the PATH or in {variable}"

    def prepare(directory: Path, port: int, _: bool) -> Sequence[str]:  # noqa: FBT001
        return [chosen, f"--data-dir={directory / 'data'}", *_places("127.0.0.1", port), *options]

    return prepare


def _places(host: str, port: int) -> Sequence[str]:
    # A member that is alone never calls its own address for peers.
    nobody = "http://127.0.0.1:1"
    return (
        f"--listen-client-urls=http://{host}:{port}",
        f"--advertise-client-urls=http://{host}:{port}",
        "--listen-peer-urls=http://127.0.0.1:0",
        f"--initial-advertise-peer-urls={nobody}",
        f"--initial-cluster=default={nobody}",
    )
