from __future__ import annotations

import uuid

import pytest

from sofa_registry_adapters.backends.memory import BACKEND
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store_factory(self) -> StoreFactory:
        target = parse_target(f"memory://{uuid.uuid4().hex}?lease=3s", BACKEND)
        return lambda: MemoryStore(target, SystemClock())
