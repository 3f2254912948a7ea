from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from sofa_registry_adapters.config import ConfigCenter
from sofa_registry_adapters.errors import Denied
from sofa_registry_adapters.testing.contract import Centers, ConfigContract, ServiceFaults
from sofa_registry_adapters.testing.contract.centers import KEY, ConfigRecorder
from sofa_registry_adapters.testing.contract.kit import takes
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service


class TestRedisConfig(ConfigContract):
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
        faults = ServiceFaults(server, {"namespace": namespace}, proxy=proxy)
        yield faults
        faults.close()

    def test_71_flushed(self, centers: Centers, faults: ServiceFaults) -> None:
        """As test_71_wipe, where connections stay and nobody is told."""
        publisher, recorder = centers.open(), centers.open().recorder()
        publisher.publish(KEY, "before")
        eventually(lambda: recorder.content == "before", 5.0, "it is told")
        with redis.Redis(faults.service.host, faults.service.port) as raw:
            raw.flushall()
        publisher.publish(KEY, "after")
        eventually(lambda: recorder.content == "after", 5.0, "the next value")
        assert recorder.contents == [None, "before", "after"]

    def test_73_killed_subscriptions(self, centers: Centers, faults: ServiceFaults) -> None:
        """Subscriptions that the server ends again and again, under writes, cost no value."""
        publisher, recorder = centers.open(), centers.open().recorder()
        with redis.Redis(faults.service.host, faults.service.port) as raw:
            for number in range(20):
                raw.client_kill_filter(_type="pubsub")
                publisher.publish(KEY, str(number))
        eventually(lambda: recorder.content == "19", 5.0, "the last value")
        assert recorder.contents.count(None) == 1

    def test_90_a_key_without_permission(self, server: Service, namespace: str) -> None:
        """Who may not read or write a key is told so at once, and what he may follow goes on."""
        with redis.Redis(server.host, server.port) as raw:
            raw.acl_setuser(
                "partly",
                enabled=True,
                passwords=["+s3cret"],
                keys=[f"sofa:{{{namespace}/config*/DEFAULT_GROUP/open}}:*", f"sofa:{{{namespace}}}:buckets"],
                channels=["sofa:*"],
                commands=["+@all"],
            )
        url = f"redis://partly:s3cret@{server.host}:{server.port}"
        with ConfigCenter(url, options={"namespace": namespace, "snapshot": "off"}) as config:
            recorder = ConfigRecorder()
            config.add_listener("open", recorder)
            for number in range(2):
                config.publish("open", str(number))
                for verb in (
                    lambda: config.get("closed"),
                    lambda: config.publish("closed", "x"),
                    lambda: config.remove("closed"),
                    lambda: config.history("closed"),
                    lambda: config.add_listener("closed", print),
                ):
                    with takes(1.5, "a refusal"), pytest.raises(Denied) as caught:
                        verb()
                    assert "s3cret" not in str(caught.value)
                eventually(lambda: recorder.content == str(number), 5.0, "what is permitted is told")  # noqa: B023  called at once
        wrong = ConfigCenter(url.replace("s3cret", "wrong"), options={"snapshot": "off"})
        with wrong, takes(1.5, "a refusal"), pytest.raises(Denied):
            wrong.get("open")
