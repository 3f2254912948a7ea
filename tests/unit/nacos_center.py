"""Nacos as a config center, on both lines, and another client of the same server."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from bounded_tests import within

from sofa_registry_adapters import ConfigCenter, ConfigItem
from sofa_registry_adapters.backends.nacos import BACKEND
from sofa_registry_adapters.backends.nacos.config import NacosConfig
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.services import Service

KEY = "pool.yaml"
LINES = (2, 3)


@pytest.fixture(params=LINES)
def line(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def service(line: int, request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue("nacos2_service" if line == 2 else "nacos_service")
    return found


@pytest.fixture
def space() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def url(service: Service, space: str) -> str:
    return f"{service.url}/{space}"


@pytest.fixture
def center(url: str) -> Iterator[ConfigCenter]:
    with ConfigCenter(url, options={"snapshot": "off"}) as opened:
        yield opened


bounded = within(120)


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[NacosConfig]:
    backend = NacosConfig(parse_target(url, BACKEND, options), SystemClock())
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


async def value(backend: NacosConfig, key: ConfigKey) -> ConfigItem:
    found = await backend.get(key)
    assert isinstance(found, ConfigItem)
    return found


def key(name: str = KEY, group: str = "orders") -> ConfigKey:
    return ConfigKey(name, group)


class Stranger:
    """Another client of Nacos: its HTTP interface, as its console and scripts use it."""

    def __init__(self, service: Service, line: int, space: str, token: str = "") -> None:
        self.line = line
        self._server = f"http://{service.host}:{service.port}/nacos"
        self._token = token
        group, tenant = ("group", "tenant") if line == 2 else ("groupName", "namespaceId")
        self._about = {group: "orders", tenant: space}
        self._path = "/v1/cs/configs" if line == 2 else "/v3/admin/cs/config"

    def call(self, method: str, path: str, **fields: str) -> Any:
        text = urlencode(fields)
        form = text.encode() if method == "POST" else None
        query = "" if method == "POST" else f"?{text}"
        request = Request(f"{self._server}{path}{query}", form, {"accessToken": self._token}, method=method)
        with urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def publish(self, data_id: str, content: str, **more: str) -> None:
        self.call("POST", self._path, dataId=data_id, content=content, **self._about, **more)

    def remove(self, data_id: str) -> None:
        self.call("DELETE", self._path, dataId=data_id, **self._about)

    def row(self, data_id: str) -> dict[str, Any]:
        try:
            found = self.call("GET", self._path, dataId=data_id, show="all", **self._about)
        except HTTPError as error:
            if error.code != 404:
                raise
            return {}
        return dict((found or {}) if self.line == 2 else found["data"])
