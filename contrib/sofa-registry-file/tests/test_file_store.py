"""The suite that ships with the library, and nothing else: once for the store, once for a Registry on it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import sofa_registry_file
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.spi.store import RecordKey, RecordStore
from sofa_registry_adapters.testing.contract import Faults, RegistryContract
from sofa_registry_adapters.testing.store_contract import DeleteBehind, StoreContract, StoreFactory, parse_target


class TestFileStore(StoreContract):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> StoreFactory:
        target = parse_target(f"file://{tmp_path}?lease=2s", sofa_registry_file.BACKEND)
        return lambda: sofa_registry_file.FileStore(target, SystemClock())

    @pytest.fixture
    def delete_behind(self, tmp_path: Path) -> DeleteBehind:
        def find(key: RecordKey) -> Path:
            [file] = [file for file in tmp_path.rglob("*.json") if f'"{key.name}"' in file.read_text()]
            return file

        async def delete(_: RecordStore, key: RecordKey) -> None:
            find(key).unlink()

        return delete


class FolderFaults(Faults):
    """What can be done to a folder: away with it."""

    abilities = frozenset(("wipe",))

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def wipe(self) -> None:
        # At once, and not file by file while others write.
        shutil.rmtree(self._folder.rename(self._folder.with_name("wiped")))


class TestFileRegistry(RegistryContract):
    lease_seconds = 3.0
    registry_options: ClassVar[dict[str, Value]] = {"poll": 0.1}

    @pytest.fixture
    def registry_url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/registry"

    @pytest.fixture
    def faults(self, tmp_path: Path) -> FolderFaults:
        return FolderFaults(tmp_path / "registry")
