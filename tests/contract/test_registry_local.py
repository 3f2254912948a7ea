from __future__ import annotations

from pathlib import Path

import pytest

from sofa_registry_adapters.testing.contract import RegistryContract


class TestLocalRegistry(RegistryContract):
    @pytest.fixture
    def registry_url(self, tmp_path: Path) -> str:
        return f"local://{tmp_path}/registry.db"
