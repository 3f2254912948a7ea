"""A server of our own for each backend, and who talks to it: ours, the raw client, the writer in a process of its own."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.services import Service, find_service, nacos

STORES = ("memory", "local", "redis", "zookeeper", "etcd")
BACKENDS = (*STORES, "nacos")
SERVERS = ("redis", "zookeeper", "etcd")


class Place(msgspec.Struct):
    """Where a backend is. ``service`` is the server, where there is one; ``folder`` is for files."""

    backend: str
    url: str
    folder: Path
    service: Any = None
    version: str = ""

    def registry(self, more: str = "", **options: Any) -> Registry:
        """One of ours, which keeps nothing on disk and never holds back a loss: neither is in the way of a measurement."""
        plain = {"snapshot": "off", "protection_hold": "0", **options}
        return Registry(self.url + more, options=plain)


@contextlib.contextmanager
def place(backend: str, *, persistent: bool = False) -> Iterator[Place]:
    """A server that is started for this, and ended."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sofa-bench-")))
        if backend == "memory":
            yield Place(backend, f"memory://bench-{uuid.uuid4().hex}", folder)
        elif backend == "local":
            yield Place(backend, f"local://{folder}/registry.db", folder)
        else:
            product = nacos.product(3, push_delay=0.05) if backend == "nacos" else backend
            service = stack.enter_context(find_service(product, own=True, persistent=persistent))
            url = f"{service.url}?push_delay=50ms" if backend == "nacos" else service.url
            yield Place(backend, url, folder, service, version(backend, service))


def version(backend: str, service: Service) -> str:
    """What the server says it is."""
    if backend == "etcd":
        with urllib.request.urlopen(f"http://{service.host}:{service.port}/version", timeout=5) as answer:
            return f"etcd {json.load(answer)['etcdserver']}"
    if backend == "nacos":
        return "Nacos 3.1"
    question, start = {
        "redis": (b"INFO server\r\n", "redis_version:"),
        "zookeeper": (b"srvr", "Zookeeper version: "),
    }[backend]
    with socket.create_connection(service.address, timeout=5) as connection:
        connection.sendall(question)
        text = connection.recv(4096).decode(errors="replace")
    found = text.partition(start)[2].split()[0]
    return f"{backend} {found.partition('-')[0]}"
