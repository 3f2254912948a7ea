from __future__ import annotations

import json
import uuid
from http.client import HTTPConnection

import pytest

from sofa_registry_adapters.backends.etcd import BACKEND
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import RecordStore
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory

PASSWORD = "root's"


def with_accounts(own: OwnEtcd) -> Service:
    """A server that wants a login."""
    server = own("--bcrypt-cost=4", "--auth-token-ttl=1")
    for path, body in (
        ("auth/user/add", {"name": "root", "password": PASSWORD}),
        ("auth/role/add", {"name": "root"}),
        ("auth/user/grant", {"user": "root", "role": "root"}),
        ("auth/enable", {}),
    ):
        connection = HTTPConnection(server.host, server.port, timeout=5)
        connection.request("POST", f"/v3/{path}", json.dumps(body))
        done = connection.getresponse().status == 200
        connection.close()
        if not done:
            break  # it was done before
    return server


class TestEtcdStore(StoreContract):
    @pytest.fixture
    def server(self, etcd_service: Service) -> Service:
        return etcd_service

    @pytest.fixture
    def user(self) -> str:
        return ""

    @pytest.fixture
    def store_factory(self, server: Service, user: str) -> StoreFactory:
        place = f"{user}{server.host}:{server.port}"
        target = parse_target(f"etcd://{place}/contract?namespace={uuid.uuid4().hex}&lease=3s", BACKEND)
        store = BACKEND.load()

        def make() -> RecordStore:
            made = store(target, SystemClock())
            assert isinstance(made, RecordStore)
            return made

        return make


class TestEtcdStoreWithAccounts(TestEtcdStore):
    """The same with a login, and tokens that are over when they were not used for a second."""

    @pytest.fixture
    def server(self, own_etcd: OwnEtcd) -> Service:
        return with_accounts(own_etcd)

    @pytest.fixture
    def user(self) -> str:
        return f"root:{PASSWORD}@"


@pytest.mark.wide
class TestEtcd36StoreWithAccounts(TestEtcdStoreWithAccounts):
    @pytest.fixture
    def server(self, own_etcd36: OwnEtcd) -> Service:
        return with_accounts(own_etcd36)


class TestEtcd36Store(TestEtcdStore):
    @pytest.fixture
    def server(self, etcd36_service: Service) -> Service:
        return etcd36_service
