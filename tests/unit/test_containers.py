"""The run on containers: which tests it takes, and what it says where there can be none. The run itself needs a docker daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sofa_registry_adapters.testing.contract import ConfigContract, RegistryContract
from sofa_registry_adapters.testing.services.container import SWITCH

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests" / "containers" / "run"
NEEDED = (
    "bash",
    "env",
    "mktemp",
    "id",
    "tail",
    "cut",
    "seq",
    "sleep",
    "rm",
    "dirname",
    "timeout",
    "kill",
    "cat",
    "setsid",
)


def test_every_test_of_the_subset_is_one_of_a_contract() -> None:
    names = re.findall(r"\btest_\d+_\w+", "".join(re.findall(r"^smoke\+?='(.*)'$", RUN.read_text(), re.MULTILINE)))
    assert len(names) > 8
    contracts = dir(RegistryContract) + dir(ConfigContract)
    assert [name for name in names if not any(test.startswith(name) for test in contracts)] == []


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH with nothing of docker on it."""
    for name in NEEDED:
        found = next(path for folder in ("/usr/bin", "/bin") if (path := Path(folder, name)).exists())
        (tmp_path / name).symlink_to(found)
    return tmp_path


def run(bare: Path, switch: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": str(bare),
        "HOME": str(bare),
        "PYTHON": sys.executable,
        "DOCKER_HOST": "unix:///nowhere.sock",
    }
    return subprocess.run(
        [str(RUN)],
        env={**environment, SWITCH: switch, **more},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(("switch", "code"), (("required", 1), ("auto", 0), ("", 0)))
def test_without_a_daemon_it_says_so_and_how_to_get_one(bare: Path, switch: str, code: int) -> None:
    pytest.importorskip("testcontainers")
    done = run(bare, switch)
    assert done.returncode == code
    assert (
        "CONTAINERS NOT TESTED: no docker daemon answers, and none could be started: there is no dockerd" in done.stderr
    )
    assert "apt-get install docker.io" in done.stderr
    assert ("SOFA_TEST_CONTAINERS=auto goes on without" in done.stderr) == (switch == "required")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start one")
def test_a_daemon_that_does_not_start_has_the_last_word(bare: Path) -> None:
    pytest.importorskip("testcontainers")
    (bare / "dockerd").write_text("#!/usr/bin/env bash\necho 'failed to start: no permission' >&2\nexit 1\n")
    (bare / "dockerd").chmod(0o755)
    done = run(bare, "required")
    assert done.returncode == 1
    assert "none could be started: failed to start: no permission" in done.stderr


def test_off_is_off_and_anything_else_is_refused(bare: Path) -> None:
    assert (run(bare, "off").returncode, run(bare, "off").stderr) == (0, "")
    done = run(bare, "of")
    assert done.returncode == 2
    assert "auto, required or off, not 'of'" in done.stderr
