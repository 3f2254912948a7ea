from __future__ import annotations

from collections.abc import Iterator

import pytest

from sofa_registry_adapters.testing.contract import ConfigContract, ServiceFaults
from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.plugin import OwnNacos
from sofa_registry_adapters.testing.services import Service

pytestmark = pytest.mark.timeout(300)


class TestNacosConfig(ConfigContract):
    @pytest.fixture
    def server(self, own_nacos: OwnNacos) -> Service:
        return own_nacos(password="a password: 'ü/@%'")

    @pytest.fixture
    def proxy(self, server: Service) -> Iterator[NetProxy]:
        with server.proxy() as proxy:
            yield proxy

    @pytest.fixture
    def registry_url(self, server: Service, proxy: NetProxy) -> str:
        return server.url_through(proxy)

    @pytest.fixture
    def faults(self, server: Service, proxy: NetProxy) -> Iterator[ServiceFaults]:
        faults = ServiceFaults(server, {}, proxy=proxy)
        yield faults
        faults.close()


@pytest.mark.wide
class TestNacosConfigWithoutAccounts(ConfigContract):
    """What has to do with faults is left to the server with accounts: each costs two starts."""

    @pytest.fixture
    def registry_url(self, real_nacos: str) -> str:
        return real_nacos
