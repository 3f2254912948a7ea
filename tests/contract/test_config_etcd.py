from __future__ import annotations

from collections.abc import Iterator

import pytest

from sofa_registry_adapters.testing.contract import ConfigContract, ServiceFaults
from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service


class TestEtcdConfig(ConfigContract):
    @pytest.fixture
    def server(self, own_etcd: OwnEtcd) -> Service:
        return own_etcd()

    @pytest.fixture
    def proxy(self, server: Service) -> Iterator[NetProxy]:
        with server.proxy() as proxy:
            yield proxy

    @pytest.fixture
    def registry_url(self, proxy: NetProxy) -> str:
        return f"etcd://{proxy.address}/contract"

    @pytest.fixture
    def faults(self, server: Service, proxy: NetProxy, namespace: str) -> Iterator[ServiceFaults]:
        faults = ServiceFaults(server, {"namespace": namespace}, path="/contract", proxy=proxy)
        yield faults
        faults.close()


@pytest.mark.wide
class TestEtcd36Config(TestEtcdConfig):
    @pytest.fixture
    def server(self, own_etcd36: OwnEtcd) -> Service:
        return own_etcd36()
