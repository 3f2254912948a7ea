"""The command line where a standard stream is closed, full or empty, as under cron and in pipes that broke."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sofa_registry_adapters import ConfigCenter

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = f"local://{tmp_path}/streams.db"
    for name in ("SOFA_REGISTRY_URL", "SOFA_CONFIG_URL"):
        monkeypatch.setenv(name, found)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return found


def shell(redirected: str, *command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "sofa_registry_adapters.cli", *command]
    started = ["/bin/sh", "-c", f'exec "$@" {redirected}', "sh", *program]
    return subprocess.run(started, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", (("services",), ("backends",), ("config", "set", "k", "v"), ("doctor",)))
@pytest.mark.parametrize("closed", (">&-", "2>&-", "<&- >&- 2>&-"))
def test_closed_streams_change_nothing_but_what_is_seen(command: tuple[str, ...], closed: str) -> None:
    done = shell(closed, *command)
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    if "2>&-" in closed:
        assert "sofa-registry:" not in done.stdout, "a note has no place in the answer"


def test_what_is_asked_of_a_closed_input_is_refused(url: str) -> None:
    done = shell("<&-", "doctor", "--fix")
    assert (done.returncode, "there is nobody to ask: add --yes" in done.stderr) == (2, True), done
    for nothing in ("<&-", "</dev/null"):
        done = shell(nothing, "config", "set", "k")
        assert (done.returncode, "nothing was published" in done.stderr) == (2, True), done
    with ConfigCenter(url, options={"snapshot": "off"}) as config:
        assert config.get("k") is None
    assert shell("", "config", "set", "k", "").returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", (("--version",), ("--help",), ("backends",), ("services", "--json")))
def test_a_full_disk_is_no_defect_of_the_program(command: tuple[str, ...]) -> None:
    done = shell(">/dev/full", *command)
    assert done.returncode == 1
    assert done.stderr == "sofa-registry: the answer cannot be written: No space left on device\n"


@pytest.mark.parametrize(("command", "code"), ((("lookup", "--nonsense"), 2), (("config", "get", "nothing"), 1)))
def test_a_failure_is_one_though_nobody_reads_its_sentence(command: tuple[str, ...], code: int) -> None:
    unread, gone = os.pipe()
    os.close(unread)
    program = [sys.executable, "-m", "sofa_registry_adapters.cli", *command]
    done = subprocess.run(program, check=False, stdout=subprocess.DEVNULL, stderr=gone, timeout=60)
    os.close(gone)
    assert done.returncode == code


@pytest.mark.parametrize("more", ((), ("--json",)))
def test_what_doctor_found_is_its_exit_code_though_nobody_reads_on(more: tuple[str, ...]) -> None:
    unread, gone = os.pipe()
    os.close(unread)
    program = [sys.executable, "-m", "sofa_registry_adapters.cli", "doctor", "--url", "redis://127.0.0.1:1", *more]
    done = subprocess.run(program, check=False, stdout=gone, stderr=subprocess.PIPE, timeout=60)
    os.close(gone)
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c_while_it_starts_is_no_traceback() -> None:
    program = "import sys, time; from sofa_registry_adapters.cli import main; print(flush=True); sys.exit(main(['--version']))"
    for delay in (0.01, 0.05, 0.1, 0.2):
        started = [sys.executable, "-c", program]
        with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        # It may have been faster, and have met the signal at Python's own end.
        assert "sofa_registry_adapters" not in said
        assert process.returncode in (130, 0, -signal.SIGINT), said
