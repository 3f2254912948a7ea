"""etcd stores in a namespace of their own, and an operator at the server; on both versions."""

from __future__ import annotations

import base64
import functools
import json
import uuid
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection
from typing import Any

import pytest
from bounded_tests import within

from sofa_registry_adapters.backends.etcd import BACKEND
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service

bounded = within(50)


def text(raw: str) -> str:
    return base64.b64encode(raw.encode()).decode()


def ask(server: Service | tuple[str, int], path: str, token: str = "", **body: object) -> Any:
    """An operator's request, through the gateway that every etcd has."""
    host, port = server if isinstance(server, tuple) else server.address
    connection = HTTPConnection(host, port, timeout=10)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(body), {"Authorization": token} if token else {})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return json.loads(said)
    finally:
        connection.close()


def compact(server: Service | tuple[str, int]) -> None:
    ask(server, "kv/compaction", revision=ask(server, "kv/range", key=text("none"))["header"]["revision"])


async def raised(call: Awaitable[object]) -> RegistryError:
    try:
        await call
    except RegistryError as error:
        return error
    raise AssertionError("nothing was raised")


async def works(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        await call()
    except Unavailable:
        return False
    return True


def store_at(place: str, user: str = "", scheme: str = "etcd", **options: str | float | bool) -> EtcdStore:
    return EtcdStore(parse_target(f"{scheme}://{user}{place}/unit", BACKEND, options), SystemClock())


Make = Callable[..., EtcdStore]


@pytest.fixture(params=("etcd", pytest.param("etcd36", marks=pytest.mark.wide)))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, version: str) -> Service:
    """One that others use as well."""
    service = request.getfixturevalue(f"{version}_service")
    assert isinstance(service, Service)
    return service


@pytest.fixture
def own(request: pytest.FixtureRequest, version: str) -> OwnEtcd:
    """Servers to be hurt."""
    factory: OwnEtcd = request.getfixturevalue(f"own_{version}")
    return factory


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def make(server: Service, namespace: str) -> Make:
    return functools.partial(store_at, f"{server.host}:{server.port}", namespace=namespace)
