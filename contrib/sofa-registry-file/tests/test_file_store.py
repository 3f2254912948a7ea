"""The suite that ships with the library, and nothing else: once for the store, once for a Registry on it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import sofa_registry_file
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.contract import RegistryContract
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory


class TestFileStore(StoreContract):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> StoreFactory:
        target = parse_target(f"file://{tmp_path}?lease=3s", sofa_registry_file.BACKEND)
        return lambda: sofa_registry_file.FileStore(target, SystemClock())


class TestFileRegistry(RegistryContract):
    registry_options: ClassVar[dict[str, Value]] = {"poll": 0.05}

    @pytest.fixture
    def registry_url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}"
