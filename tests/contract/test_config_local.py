from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.contract import ConfigContract, StoreFaults
from sofa_registry_adapters.testing.faults import python_process

READABLE = "a file that another process has locked can be read all the same"
LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(3600)
"""


class LocalFaults(StoreFaults):
    """Another process that keeps the file locked, and an operator who deletes it."""

    abilities = StoreFaults.abilities | {"pause", "resume", "black_hole", "heal", "wipe"}

    def __init__(self, path: Path, namespace: str) -> None:
        super().__init__(f"local://{path}", {"namespace": namespace})
        self._path = path
        self._locked = contextlib.ExitStack()

    def pause(self) -> None:
        # Another process: one that opens and closes the file in this one would end the library's own locks.
        self._locked.enter_context(python_process(["-c", LOCK, str(self._path)])).expect("locked")

    def resume(self) -> None:
        self._locked.close()

    def black_hole(self) -> None:
        self.pause()

    def heal(self) -> None:
        self.resume()

    def wipe(self) -> None:
        for ending in ("", "-wal", "-shm"):
            Path(f"{self._path}{ending}").unlink(missing_ok=True)

    def close(self) -> None:
        self.resume()
        super().close()


class TestLocalConfig(ConfigContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "registry.db"

    @pytest.fixture
    def registry_url(self, path: Path) -> str:
        return f"local://{path}"

    @pytest.fixture
    def faults(self, path: Path, namespace: str) -> Iterator[LocalFaults]:
        faults = LocalFaults(path, namespace)
        yield faults
        faults.close()

    def test_72_a_center_that_hangs(self) -> None:  # type: ignore[override]
        not_applicable(READABLE)

    def test_74_a_change_behind_a_black_hole(self) -> None:  # type: ignore[override]
        not_applicable(READABLE)
