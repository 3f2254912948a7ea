"""Nacos servers of both lines, a proxy in front, and registries that are closed at the end."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sofa_registry_adapters.model.events import Published
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract.kit import Registries
from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.services import Service

PUSH_DELAY = 0.05
BACK_WITHIN = 2.0
"""Seconds after a server is ready, or a client wakes, until everything is in the registry again."""
Note = Callable[[str, object], None]


@contextlib.contextmanager
def made(url: str, **options: Any) -> Iterator[Registries]:
    given = {"namespace": f"test-{uuid.uuid4().hex}", "push_delay": PUSH_DELAY, **options}
    registries = Registries(url, given, "", 0.0)
    try:
        yield registries
    finally:
        registries.close()


@pytest.fixture(params=(pytest.param("nacos2", marks=pytest.mark.wide), "nacos"))
def line(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(request: pytest.FixtureRequest, line: str) -> Service:
    return request.getfixturevalue(f"own_{line}")(push_delay=PUSH_DELAY)


@pytest.fixture
def proxy(server: Service) -> Iterator[NetProxy]:
    with server.proxy() as proxy:
        yield proxy


@pytest.fixture
def registries(server: Service) -> Iterator[Registries]:
    with made(server.url) as registries:
        yield registries


def times_published(registry: Registry) -> list[float]:
    """When something is published from now on."""
    time.sleep(0.2)  # what was published before has been told by then
    times: list[float] = []
    registry.events.on(Published, lambda _: times.append(time.monotonic()))
    return times
