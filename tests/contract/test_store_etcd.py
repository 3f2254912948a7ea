from __future__ import annotations

import uuid

import pytest

from sofa_registry_adapters.backends.etcd import BACKEND
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import RecordStore
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory


class TestEtcdStore(StoreContract):
    @pytest.fixture
    def server(self, etcd_service: Service) -> Service:
        return etcd_service

    @pytest.fixture
    def store_factory(self, server: Service) -> StoreFactory:
        target = parse_target(f"{server.url}/contract?namespace={uuid.uuid4().hex}&lease=3s", BACKEND)
        store = BACKEND.load()

        def make() -> RecordStore:
            made = store(target, SystemClock())
            assert isinstance(made, RecordStore)
            return made

        return make


class TestEtcd36Store(TestEtcdStore):
    @pytest.fixture
    def server(self, etcd36_service: Service) -> Service:
        return etcd36_service
