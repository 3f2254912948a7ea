"""Commands that stay until a signal: publish and watch."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import HELLO, WITHIN, Command, sentence, start, url

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import main

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["start", "url"]


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
def test_publish_stays_until_a_signal_and_withdraws(url: str, start: Callable[..., Command], number: int) -> None:
    command = start("publish", HELLO, "10.0.0.7:80", "10.0.0.8:80", "--weight", "5", "--zone", "z", "--metadata", "k=v")
    assert command.line("live").endswith(f"10.0.0.7:80, 10.0.0.8:80  on {url}")
    with Registry(url) as registry:
        view = registry.lookup(HELLO)
        assert sorted(one.address for one in view) == ["10.0.0.7:80", "10.0.0.8:80"]
        assert {(one.weight, one.zone, one.metadata["k"]) for one in view} == {(5, "z", "v")}
        assert command.end(number) == (0, "")
        assert "withdrawn" in command.line("withdrawn")
        assert len(registry.lookup(HELLO)) == 0


def test_publish_with_a_port_uses_this_machines_address(start: Callable[..., Command]) -> None:
    command = start("publish", HELLO, "--port", "8080", "--disabled", "--protocol", "bolt")
    assert "127.0.0.1:8080" in command.line("live")


def test_publish_says_when_the_record_is_lost_and_back(url: str, tmp_path: Path, start: Callable[..., Command]) -> None:
    command = start("publish", HELLO, "10.0.0.7:80")
    command.line("live")
    with contextlib.closing(sqlite3.connect(tmp_path / "registry.db")) as database, database:
        assert database.execute("DELETE FROM records").rowcount == 1
    command.line("lost")
    command.line("live")
    assert command.end(signal.SIGTERM) == (0, "")


def test_publish_says_when_somebody_else_took_the_id(start: Callable[..., Command]) -> None:
    command = start("publish", HELLO, "10.0.0.7:80")
    command.line("live")
    newer = start("publish", HELLO, "10.0.0.7:80")
    newer.line("live")
    command.line("conflict")
    assert newer.end(signal.SIGTERM)[0] == 0
    command.line("live")


def test_publish_into_a_registry_that_is_down_fails_and_says_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", HELLO, "10.0.0.7:80", "--url", "redis://127.0.0.1:1", "--timeout", "0.3"]) == 1
    assert "cannot be reached" in sentence(capsys)


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_watch_for_machines_is_one_line_of_json_a_change(url: str, start: Callable[..., Command], number: int) -> None:
    command = start("watch", HELLO, "--json")
    first = json.loads(command.line())
    assert (first["service"], first["instances"]) == (HELLO, [])
    with Registry(url) as registry:
        registration = registry.publish(HELLO, "10.0.0.7:80")
        added = json.loads(command.line())
        assert (added["added"], added["instances"][0]["weight"]) == (["10.0.0.7:80"], 100)
        registration.update(weight=3)
        updated = json.loads(command.line())
        assert (updated["updated"], updated["instances"][0]["weight"]) == (["10.0.0.7:80"], 3)
        registration.unpublish()
        removed = json.loads(command.line())
        assert (removed["removed"], removed["instances"]) == (["10.0.0.7:80"], [])
    assert command.end(number) == (0, "")


def test_watch_in_a_pipe_is_one_line_a_change(url: str, start: Callable[..., Command]) -> None:
    command = start("watch", HELLO)
    assert command.line().endswith(f"{HELLO}  0 instances")
    with Registry(url) as registry:
        registration = registry.publish(HELLO, [f"10.0.0.{number}:80" for number in range(1, 8)])
        assert command.line().endswith("  +2 more")
        registration.update(weight=3)
        assert "  ~10.0.0.1:80" in command.line()
    assert "0 instances  -10.0.0" in command.line()
    code, error = command.end(signal.SIGINT)
    assert (code, error) == (0, f"sofa-registry: {HELLO} has no instances yet, waiting\n")


def test_watch_on_a_terminal_is_a_live_table(url: str) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "24"}
    arguments = [sys.executable, "-m", "sofa_registry_adapters.cli", "watch", HELLO]
    with (
        subprocess.Popen(arguments, stdin=slave, stdout=slave, stderr=slave, env=environment) as process,
        Registry(url) as registry,
        os.fdopen(master, "rb", buffering=0) as screen,
    ):
        os.close(slave)
        try:
            read_until(screen, "0 instances", process)
            registry.publish(HELLO, "10.0.0.7:80", zone="shanghai-a")
            shown = read_until(screen, "+10.0.0.7:80", process)
            assert "shanghai-a" in shown
            assert "1 instance" in shown
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(WITHIN) == 0


def read_until(screen: object, text: str, process: subprocess.Popen[bytes]) -> str:
    """What the terminal shows until ``text`` is there; a hang is ended by ending the process."""
    timer = threading.Timer(WITHIN, process.kill)
    timer.start()
    seen = ""
    try:
        while text not in seen:
            seen += screen.read(4096).decode()  # type: ignore[attr-defined]
    finally:
        timer.cancel()
    return seen
