"""The contracts on a master with replicas and Sentinels, and on a cluster."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.handles import Registration
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.settings import parse_target, scheme_of
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import RecordStore
from sofa_registry_adapters.testing.contract import ConfigContract, RegistryContract, ServiceFaults
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.faults.authority import Authority
from sofa_registry_adapters.testing.faults.operators.redis import RedisOperator
from sofa_registry_adapters.testing.services.redis_sets import (
    ClusterSet,
    RedisSet,
    SentinelSet,
    cluster_set,
    sentinel_set,
)
from sofa_registry_adapters.testing.services.secured import Papers
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory

pytestmark = [pytest.mark.wide, pytest.mark.timeout(180)]


class SetFaults(ServiceFaults):
    abilities = ServiceFaults.abilities | {"expire"}

    def expire(self, registry: Registry) -> None:
        assert isinstance(self.service, RedisSet)
        for one in self.service.writable():
            RedisOperator(*one.address).expire()


class OnSet:
    """All servers that have records are killed, frozen or wiped at once; what happens to one of them is in the outage matrix."""

    @pytest.fixture
    def server(self) -> RedisSet:
        raise NotImplementedError

    @pytest.fixture
    def registry_url(self, server: RedisSet) -> str:
        return server.url

    @pytest.fixture
    def faults(self, server: RedisSet, namespace: str) -> Iterator[ServiceFaults]:
        faults = SetFaults(server, {"namespace": namespace})
        yield faults
        faults.close()


class OnSentinels(OnSet):
    @pytest.fixture
    def server(self, own_redis_sentinel: Callable[[], SentinelSet]) -> SentinelSet:
        return own_redis_sentinel()


class OnCluster(OnSet):
    @pytest.fixture
    def server(self, own_redis_cluster: Callable[[], ClusterSet]) -> ClusterSet:
        return own_redis_cluster()


class TestSentinelRegistry(OnSentinels, RegistryContract):
    recovery_seconds: ClassVar = 2.0


class TestClusterRegistry(OnCluster, RegistryContract):
    recovery_seconds: ClassVar = 2.0


class TestSentinelConfig(OnSentinels, ConfigContract):
    pass


class TestClusterConfig(OnCluster, ConfigContract):
    pass


class SetStore(StoreContract):
    @pytest.fixture
    def server(self) -> RedisSet:
        raise NotImplementedError

    @pytest.fixture
    def store_factory(self, server: RedisSet) -> StoreFactory:
        backend = Plugins().backend(scheme_of(server.url))
        target = parse_target(f"{server.url}?namespace={uuid.uuid4().hex}&lease=3s", backend)
        store = backend.load()

        def make() -> RecordStore:
            made = store(target, SystemClock())
            assert isinstance(made, RecordStore)
            return made

        return make


class TestSentinelStore(OnSentinels, SetStore):
    pass


class TestClusterStore(OnCluster, SetStore):
    pass


@pytest.mark.usefixtures("redis_service")  # where there is none, there are no sets
@pytest.mark.parametrize("build", (sentinel_set, cluster_set))
def test_everything_over_tls(build: Callable[..., RedisSet], tmp_path: pathlib.Path) -> None:
    """Also who the Sentinels, or nodes, name is spoken to over TLS, and his certificate and name verified; and so after a failover."""
    if not Authority.possible():
        pytest.skip("no openssl on the PATH")
    authority = Authority(tmp_path / "authority")
    papers = Papers(authority, authority.issue("server", "IP:127.0.0.1"))
    options = {"snapshot": "off", "lease": 2.0, "call_timeout": 1.0}
    with build(papers=papers) as servers:
        assert servers.url.startswith("rediss+")
        with Registry(servers.url, options=options) as stranger, pytest.raises(Unavailable, match="certificate"):
            stranger.lookup("echo", timeout=3.0)
        with Registry(servers.url, options={**options, "ca": str(authority.ca)}) as registry:
            registration = registry.publish("echo", ["10.0.0.1:1", "10.0.0.2:1"])
            assert len(registry.lookup("echo")) == 2
            master = servers.writable()[0]
            master.kill()
            eventually(lambda: _written(registration), 30.0, "a replica takes over")
            assert {one.weight for one in registry.lookup("echo")} == {7}


def _written(registration: Registration) -> bool:
    try:
        registration.update(weight=7, timeout=0.5)
    except RegistryError:
        return False
    return True
