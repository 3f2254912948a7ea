from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract import RegistryContract, ServiceFaults
from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service


class RedisFaults(ServiceFaults):
    abilities = ServiceFaults.abilities | {"expire"}

    def expire(self, registry: Registry) -> None:
        with redis.Redis(self.service.host, self.service.port) as raw:
            for key in raw.scan_iter("*}:leases"):
                for owner in raw.zrange(key, 0, -1):
                    raw.zadd(key, {owner: 1})


class FlushFaults(RedisFaults):
    """Loses the data without a restart: connections stay, and nobody is told."""

    def wipe(self) -> None:
        with redis.Redis(self.service.host, self.service.port) as raw:
            raw.flushall()


class TestRedisRegistry(RegistryContract):
    recovery_seconds = 1.0
    make = RedisFaults

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
        faults = self.make(server, {"namespace": namespace}, proxy=proxy)
        yield faults
        faults.close()
