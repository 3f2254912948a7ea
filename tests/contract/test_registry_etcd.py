from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract import RegistryContract, ServiceFaults
from sofa_registry_adapters.testing.contract.kit import ECHO, SLACK, STEP, Registries, reactor_loop
from sofa_registry_adapters.testing.contract.outages import MANY, Scene
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service


def ask(service: Service, path: str, **body: object) -> Any:
    """An operator's request, through the gateway that every etcd has."""
    connection = HTTPConnection(service.host, service.port, timeout=5)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)
    finally:
        connection.close()


class EtcdFaults(ServiceFaults):
    abilities = ServiceFaults.abilities | {"expire"}

    def expire(self, registry: Registry) -> None:
        """An operator revokes every lease there is."""
        for lease in ask(self.service, "lease/leases").get("leases", ()):
            ask(self.service, "lease/revoke", ID=lease["ID"])


class TestEtcdRegistry(RegistryContract):
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
        faults = EtcdFaults(server, {"namespace": namespace}, path="/contract", proxy=proxy)
        yield faults
        faults.close()

    def test_51_prefix_deleted(self, registries: Registries, faults: ServiceFaults) -> None:
        """As test_51_wipe, by an operator who deletes every key there is."""
        scene = Scene(registries)
        for weight in (1, 2):
            ask(faults.service, "kv/deleterange", key="AA==", range_end="AA==")
            scene.recovers(self.recovery_seconds + SLACK)
            scene.changes_flow(weight)
        assert scene.recorder.smallest == len(scene.many.instances)

    def test_54_compaction_while_away(self, registries: Registries, faults: ServiceFaults) -> None:
        """What changed while nobody could be told is not lost, even when the server has forgotten how it came about."""
        scene = Scene(registries)
        for weight in (1, 2):
            faults.black_hole()
            # At once: the lease of the others ends while nothing is heard.
            faults.delete_behind(ECHO, MANY[weight])
            found = ask(faults.service, "kv/range", key="AA==", range_end="AA==", count_only=True)
            ask(faults.service, "kv/compaction", revision=found["header"]["revision"])
            eventually(lambda: scene.recorder.stale, registries.lease + STEP, "the outage is noticed")
            faults.heal()
            scene.recovers(self.recovery_seconds + SLACK)
            scene.changes_flow(weight)

    def test_54_streams_that_ended_leave_no_task(
        self, registries: Registries, faults: ServiceFaults, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A stream that was cut is over for grpc as well: none of its tasks waits for ever."""
        registry, recorder = registries.recorder()
        for number in range(5):
            faults.cut()
            with registries.fresh() as publisher:
                publisher.publish(ECHO, f"10.0.0.{number}:1", timeout=10)
                eventually(lambda: recorder.ids == {f"10.0.0.{number}:1"}, 10, "the watch is there again")  # noqa: B023
        loop = reactor_loop(registry)
        left = [task for task in asyncio.all_tasks(loop) if "_consume_request_iterator" in repr(task)]
        gc.collect()
        assert len(left) <= 1, left
        assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.wide
class TestEtcd36Registry(TestEtcdRegistry):
    @pytest.fixture
    def server(self, own_etcd36: OwnEtcd) -> Service:
        return own_etcd36()
