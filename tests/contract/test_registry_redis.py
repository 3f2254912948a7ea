from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract import RegistryContract, ServiceFaults
from sofa_registry_adapters.testing.contract.kit import ECHO, SLACK, Registries
from sofa_registry_adapters.testing.contract.outages import Scene
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service


class RedisFaults(ServiceFaults):
    abilities = ServiceFaults.abilities | {"expire"}

    def expire(self, registry: Registry) -> None:
        with redis.Redis(self.service.host, self.service.port) as raw:
            for key in raw.scan_iter("*}:leases"):
                for owner in raw.zrange(key, 0, -1):
                    raw.zadd(key, {owner: 1})


class TestRedisRegistry(RegistryContract):
    recovery_seconds = 1.0

    @pytest.fixture
    def server(self, own_redis: OwnService) -> Service:
        return own_redis()

    @pytest.fixture
    def proxy(self, server: Service) -> Iterator[NetProxy]:
        with NetProxy(server.address) as proxy:
            yield proxy

    @pytest.fixture
    def registry_url(self, proxy: NetProxy) -> str:
        return f"redis://{proxy.address}"

    @pytest.fixture
    def faults(self, server: Service, proxy: NetProxy, namespace: str) -> Iterator[ServiceFaults]:
        faults = RedisFaults(server, {"namespace": namespace}, proxy=proxy)
        yield faults
        faults.close()

    def test_51_flushed(self, registries: Registries, faults: ServiceFaults) -> None:
        """As test_51_wipe, where connections stay and nobody is told."""
        scene = Scene(registries)
        for weight in (1, 2):
            with redis.Redis(faults.service.host, faults.service.port) as raw:
                raw.flushall()
            scene.recovers(self.recovery_seconds + SLACK)
            scene.changes_flow(weight)
        assert scene.recorder.smallest == len(scene.many.instances)

    def test_54_killed_subscriptions(self, registries: Registries, faults: ServiceFaults) -> None:
        """Subscriptions that the server ends again and again, under writes, cost no change."""
        scene = Scene(registries)
        with redis.Redis(faults.service.host, faults.service.port) as raw:
            for weight in range(1, 21):
                raw.client_kill_filter(_type="pubsub")
                scene.many.update(weight=weight)
        eventually(lambda: {one.weight for one in scene.recorder.replica.values()} == {20}, 5.0, "the last write")
        assert set(scene.consumer.lookup(ECHO)) == set(scene.reader.lookup(ECHO))
        assert scene.recorder.smallest == len(scene.many.instances)
