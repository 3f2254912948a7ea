"""A working folder with a file `sofa-registry.toml`, without the variables of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sofa_registry_adapters.named import FILE_NAME

CANARY = "cAnArY-7f3"
HARD = "p/s?w@r:d#%25 ü&=+${x}"
"""A password with everything that a URL would take for something else."""


class Desk:
    """A working directory, an environment, and a file in them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / FILE_NAME
        self.setenv = monkeypatch.setenv
        monkeypatch.chdir(folder)
        for name in os.environ:
            if name.startswith("SOFA_"):
                monkeypatch.delenv(name)

    def write(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)
