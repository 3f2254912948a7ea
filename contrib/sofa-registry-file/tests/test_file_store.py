"""The suite that ships with the library, and nothing else: once for the store, once for a Registry on it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import sofa_registry_file
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.spi.store import RecordKey, RecordStore
from sofa_registry_adapters.testing.contract import Faults, RegistryContract
from sofa_registry_adapters.testing.store_contract import DeleteBehind, StoreContract, StoreFactory

NO_TAKEOVER = "without compare_and_set an id stays with its holder until that one withdraws it, or its lease is over"
NO_WATCH = "it watches, and a folder tells of no changes"
LEFT_OUT = {
    "test_4_a_live_owner_outlives_its_lease": NO_WATCH,
    "test_values_are_any_bytes": NO_WATCH,
    "test_values_as_large_as_declared": NO_WATCH,
    "test_values_too_large_harm_nothing": NO_WATCH,
    "test_20_later_notices": "its first later notice comes with the next poll",
    "test_22_replica": "it withdraws faster than is polled for, and then the protection holds what vanished",
    "test_45_restarted_with_the_same_id": NO_TAKEOVER,
    "test_46_the_newer_holds_the_id": NO_TAKEOVER,
    "test_46_the_older_may_leave": NO_TAKEOVER,
    "test_70_ten_thousand": "every poll reads every file: this is for some hundred records",
}
"""Tests that ask for what the store declares absent, or is not made for."""


@pytest.fixture(autouse=True)
def _left_out(request: pytest.FixtureRequest) -> None:
    reason = LEFT_OUT.get(request.node.originalname)
    if reason is not None:
        pytest.skip(reason)


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
        shutil.rmtree(self._folder)


class TestFileRegistry(RegistryContract):
    lease_seconds = 1.0
    registry_options: ClassVar[dict[str, Value]] = {"poll": 0.05}

    @pytest.fixture
    def registry_url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/registry"

    @pytest.fixture
    def faults(self, tmp_path: Path) -> FolderFaults:
        return FolderFaults(tmp_path / "registry")
