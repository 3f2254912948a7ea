from __future__ import annotations

from pathlib import Path

import pytest

from sofa_registry_adapters.backends.local import BACKEND
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import RecordStore
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> StoreFactory:
        target = parse_target(f"local://{tmp_path}/registry.db?lease=3s", BACKEND)
        store = BACKEND.load()

        def make() -> RecordStore:
            made = store(target, SystemClock())
            assert isinstance(made, RecordStore)
            return made

        return make
