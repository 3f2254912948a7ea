"""The command line as a process of its own, on a registry of the test."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELLO = "com.acme.Hello:1.0"
WITHIN = 10.0


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry of the test's own, which is also the one that is used where none is named."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    url = f"local://{tmp_path}/registry.db"
    monkeypatch.setenv("SOFA_REGISTRY_URL", url)
    return url


class Command:
    """`sofa-registry` as a process; its lines come as they are printed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sofa_registry_adapters.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line.rstrip("\n"))

    def line(self, having: str = "") -> str:
        """The next line with ``having`` in it."""
        deadline = time.monotonic() + WITHIN
        while True:
            line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if having in line:
                return line

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Exit code and standard error, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(WITHIN)
        self._reader.join(WITHIN)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., Command]]:
    """Start commands, and see to it that none outlives the test."""
    started: list[Command] = []
    # Under nohup they would inherit that a hangup is ignored, and rightly ignore it.
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def begin(*arguments: str) -> Command:
        started.append(Command(*arguments))
        return started[-1]

    yield begin
    signal.signal(signal.SIGHUP, hangup)
    for one in started:
        one.process.kill()
        one.end()
        for pipe in (one.process.stdout, one.process.stderr):
            if pipe is not None:
                pipe.close()


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """What is on standard error: one line that says who speaks, and nothing on standard output."""
    seen = capsys.readouterr()
    assert seen.out == ""
    assert re.fullmatch(r"sofa-registry: [^\n]+\n", seen.err)
    return seen.err
