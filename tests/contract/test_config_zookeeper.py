from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from sofa_registry_adapters.testing.contract import Centers, ConfigContract, ServiceFaults
from sofa_registry_adapters.testing.contract.centers import KEY
from sofa_registry_adapters.testing.contract.kit import stays
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service


class TestZooKeeperConfig(ConfigContract):
    @pytest.fixture
    def server(self, own_zookeeper: OwnService) -> Service:
        return own_zookeeper()

    @pytest.fixture
    def proxy(self, server: Service) -> Iterator[NetProxy]:
        with NetProxy(server.address) as proxy:
            yield proxy

    @pytest.fixture
    def registry_url(self, proxy: NetProxy) -> str:
        return f"zookeeper://{proxy.address}/contract?session_timeout=2"

    @pytest.fixture
    def faults(self, server: Service, proxy: NetProxy, namespace: str) -> Iterator[ServiceFaults]:
        faults = ServiceFaults(server, {"namespace": namespace}, path="/contract", proxy=proxy)
        yield faults
        faults.close()

    def test_71_tree_deleted(self, centers: Centers, faults: ServiceFaults, namespace: str) -> None:
        """As test_71_wipe, by an operator who deletes everything below the namespace."""
        publisher, recorder = centers.open(), centers.open().recorder()
        publisher.publish(KEY, "before")
        eventually(lambda: recorder.content == "before", 5.0, "it is told")
        client = KazooClient(f"{faults.service.host}:{faults.service.port}")
        client.start(timeout=10)
        try:
            client.delete(f"/contract/{namespace}", recursive=True)
        finally:
            client.stop()
            client.close()
        stays(lambda: recorder.content == "before", 0.5, "nobody removed it")
        publisher.publish(KEY, "after")
        eventually(lambda: recorder.content == "after", 5.0, "the next value")
        assert recorder.contents == [None, "before", "after"]
