from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from sofa_registry_adapters.testing.contract import RegistryContract, ServiceFaults
from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.services import Service

PUSH_DELAY = 0.05
"""Seconds that the servers here wait before they tell of a change: half a second would be most of the time of the tests."""

pytestmark = pytest.mark.timeout(300)


class NacosFaults(ServiceFaults):
    """Nobody but its connection can delete an ephemeral instance, and there are no bytes to write: Nacos has fields."""

    def __init__(self, service: Service, proxy: NetProxy) -> None:
        super().__init__(service, {}, proxy=proxy)
        self.abilities -= {"delete_behind", "write_raw"}


class NacosContract(RegistryContract):
    lease_option = ""
    registry_options: ClassVar = {"push_delay": PUSH_DELAY}
    # The whole list is one message, and the gate runs with coverage, which makes Python three times as slow.
    lag_seconds = 0.3

    @pytest.fixture
    def server(self) -> Service:
        raise NotImplementedError

    @pytest.fixture
    def proxy(self, server: Service) -> Iterator[NetProxy]:
        with server.proxy() as proxy:
            yield proxy

    @pytest.fixture
    def registry_url(self, server: Service, proxy: NetProxy) -> str:
        return server.url.replace(f"{server.host}:{server.port}", proxy.address)

    @pytest.fixture
    def faults(self, server: Service, proxy: NetProxy) -> Iterator[ServiceFaults]:
        faults = NacosFaults(server, proxy)
        yield faults
        faults.close()


@pytest.mark.wide
class TestNacos2Registry(NacosContract):
    silent_stay = "Nacos 2.2 does not look after clients that hang: what should drop them only writes a line to its log"

    @pytest.fixture
    def server(self, own_nacos2: Callable[..., Service]) -> Service:
        return own_nacos2(push_delay=PUSH_DELAY)


class TestNacos3Registry(NacosContract):
    @pytest.fixture
    def server(self, own_nacos: Callable[..., Service]) -> Service:
        return own_nacos(push_delay=PUSH_DELAY)


@pytest.mark.wide
class TestNacos3RegistryWithAccounts(NacosContract):
    @pytest.fixture
    def server(self, own_nacos: Callable[..., Service]) -> Service:
        return own_nacos(push_delay=PUSH_DELAY, password="a password: 'ü/@%'")
