from __future__ import annotations

import uuid

import pytest

from sofa_registry_adapters.backends.zookeeper import BACKEND
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import RecordStore
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory


class TestZooKeeperStore(StoreContract):
    @pytest.fixture
    def store_factory(self, zookeeper_service: Service) -> StoreFactory:
        target = parse_target(f"{zookeeper_service.url}?namespace={uuid.uuid4().hex}&session_timeout=3s", BACKEND)
        store = BACKEND.load()

        def make() -> RecordStore:
            made = store(target, SystemClock())
            assert isinstance(made, RecordStore)
            return made

        return make
