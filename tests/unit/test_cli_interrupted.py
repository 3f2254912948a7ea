"""The command line when somebody presses Ctrl-C, or ends it: nothing that was typed is lost."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sofa_registry_adapters import ConfigCenter
from sofa_registry_adapters.testing.faults import eventually

EDITOR = """
import pathlib, signal, sys, time
pressed = []
signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
path, ready = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[1])
path.write_text("half")
ready.write_text(str(path))
while not pressed:
    time.sleep(0.02)
time.sleep(0.5)
path.write_text("whole")
"""


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self._seen = b""
        self._screen, other = pty.openpty()
        # Who leads a session, and opens a terminal, has it for its own: Ctrl-C goes to all that it started.
        shell = f"exec {shlex.join([sys.executable, '-m', 'sofa_registry_adapters.cli', *command])} <$0 >$0 2>&1"
        self.process = subprocess.Popen(["/bin/sh", "-c", shell, os.ttyname(other)], start_new_session=True)
        eventually(lambda: os.tcgetpgrp(self._screen) == self.process.pid, 10, "it has its terminal")
        os.close(other)

    def type(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def shows(self, text: str) -> None:
        """Wait until it is on the screen."""
        deadline = time.monotonic() + 20
        while text not in self._seen.decode():
            assert time.monotonic() < deadline, self._seen
            if select.select([self._screen], [], [], 0.1)[0]:
                self._seen += os.read(self._screen, 4096)

    def end(self) -> tuple[int, str]:
        """The exit code, and what was on the screen."""
        code = self.process.wait(20)
        with contextlib.suppress(OSError):
            while True:
                self._seen += os.read(self._screen, 4096)
        os.close(self._screen)
        return code, self._seen.decode()


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    program = tmp_path / "editor.py"
    program.write_text(EDITOR)
    monkeypatch.setenv("VISUAL", shlex.join([sys.executable, str(program), str(tmp_path / "ready")]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return f"local://{tmp_path}/config.db"


def begun(tmp_path: Path) -> Path:
    ready = tmp_path / "ready"
    eventually(lambda: ready.exists() and ready.read_text(), 20, "the editor is at work")
    return Path(ready.read_text())


def test_ctrl_c_in_the_editor_is_the_editors_affair(tmp_path: Path, url: str) -> None:
    terminal = Terminal("config", "edit", "k", "--url", url)
    begun(tmp_path)
    terminal.type(b"\x03")
    code, screen = terminal.end()
    assert code == 0, screen
    with ConfigCenter(url, options={"snapshot": "off"}) as config:
        item = config.get("k")
        assert item is not None
        assert item.text == "whole"


def test_whoever_ends_the_command_is_told_where_the_text_is(tmp_path: Path, url: str) -> None:
    terminal = Terminal("config", "edit", "k", "--url", url)
    kept = begun(tmp_path)
    terminal.process.terminate()
    code, screen = terminal.end()
    assert code == 130
    assert f"what you wrote is in {kept}" in screen.replace("\r\n", "")
    assert kept.read_text() == "half"


def test_a_value_that_is_no_text_does_not_end_the_watch(url: str) -> None:
    with ConfigCenter(url, options={"snapshot": "off"}) as config:
        config.publish("k", "first")
        terminal = Terminal("config", "watch", "k", "--content", "--url", url)
        terminal.shows("first")
        config.publish("k", b"\xff\x00")
        terminal.shows("bytes that are no text")
        config.publish("k", "last")
        terminal.shows("last")
        terminal.type(b"\x03")
        code, screen = terminal.end()
    assert code == 0, screen
