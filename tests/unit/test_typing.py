"""The public surface, as users write it, satisfies the type checkers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import sofa_registry_adapters
from sofa_registry_adapters import errors, events

ROOT = Path(__file__).parents[2]
SURFACE = ROOT / "tests" / "typing" / "api.py"


def check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed: it comes with the extra dev")
def test_mypy_accepts_it() -> None:
    check(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(SURFACE))


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.skipif(
    shutil.which("pyright") is None or shutil.which("node") is None,
    reason="pyright and the node that it runs on are not both installed",
)
def test_pyright_accepts_it() -> None:
    check("pyright", "--pythonpath", sys.executable, str(SURFACE))


def test_it_uses_every_public_name() -> None:
    text = SURFACE.read_text(encoding="utf-8")
    names = (*sofa_registry_adapters.__all__, *events.__all__)
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "sofa_registry_adapters" / "py.typed").is_file()


def test_errors_that_are_also_built_in_ones_stay_so() -> None:
    assert issubclass(errors.InvalidArgument, ValueError)
    assert issubclass(errors.MissingDependency, ImportError)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)
