from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract import RegistryContract, ServiceFaults
from sofa_registry_adapters.testing.contract.kit import SLACK, Registries
from sofa_registry_adapters.testing.contract.outages import Scene
from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service


class ZooKeeperFaults(ServiceFaults):
    abilities = ServiceFaults.abilities | {"expire"}

    def expire(self, registry: Registry) -> None:
        """Somebody else joins the session and closes it."""
        store = registry._opened().engine.backend._store
        for session in tuple(store._sessions):
            client = KazooClient(f"{self.service.host}:{self.service.port}", client_id=session._client.client_id)
            client.start(timeout=10)
            client.stop()
            client.close()


class TestZooKeeperRegistry(RegistryContract):
    lease_option = "session_timeout"

    @pytest.fixture
    def server(self, own_zookeeper: OwnService) -> Service:
        return own_zookeeper()

    @pytest.fixture
    def proxy(self, server: Service) -> Iterator[NetProxy]:
        with NetProxy(server.address) as proxy:
            yield proxy

    @pytest.fixture
    def registry_url(self, proxy: NetProxy) -> str:
        return f"zookeeper://{proxy.address}/contract"

    @pytest.fixture
    def faults(self, server: Service, proxy: NetProxy, namespace: str) -> Iterator[ServiceFaults]:
        faults = ZooKeeperFaults(server, {"namespace": namespace}, path="/contract", proxy=proxy)
        yield faults
        faults.close()

    def test_51_tree_deleted(self, registries: Registries, faults: ServiceFaults, namespace: str) -> None:
        """As test_51_wipe, by an operator who deletes everything below the namespace."""
        scene = Scene(registries)
        client = KazooClient(f"{faults.service.host}:{faults.service.port}")
        client.start(timeout=10)
        try:
            for weight in (1, 2):
                client.delete(f"/contract/{namespace}", recursive=True)
                scene.recovers(self.recovery_seconds + SLACK)
                scene.changes_flow(weight)
        finally:
            client.stop()
            client.close()
        assert scene.recorder.smallest > 0
