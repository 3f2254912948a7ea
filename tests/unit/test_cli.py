"""The command line as a user meets it: in this process where that is enough, else as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import queue
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import app as application
from sofa_registry_adapters.cli import main, reference
from sofa_registry_adapters.cli.demo import story
from sofa_registry_adapters.cli.publishing import read_metadata
from sofa_registry_adapters.cli.screen import printable
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.settings import table_of
from sofa_registry_adapters.testing.services import Service

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


# Wrong usage.


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("lokup",), "there is no command 'lokup': did you mean 'lookup'?"),
        (("services", "--jsn"), "sofa-registry services has no option '--jsn': did you mean '--json'?"),
        (("--ulr", "local://", "services"), "sofa-registry has no option '--ulr': did you mean '--url'?"),
        (("lookup",), "missing argument 'SERVICE'"),
        (("lookup", "a:b:c:d"), "has 4 parts"),
        (("lookup", ""), "the service name is empty"),
        (("services", "--url", "redsi://x"), "did you mean 'redis'?"),
        (("services", "--url", "redis://h?leas=3"), "did you mean 'lease'?"),
        (("services", "--url", ""), "is not a registry URL"),
        (("services", "--timeout", "soon"), "'soon' is not a number of seconds"),
        (("services", "--timeout", "nan"), "a timeout is a number of seconds above 0"),
        (("backends", "zokeeper"), "did you mean 'zookeeper'?"),
        (("publish", HELLO), "publish needs addresses as host:port, or --port"),
        (("publish", HELLO, "1.2.3.4:80", "--port", "80"), "not both"),
        (("publish", HELLO, "1.2.3.4"), "is not 'host:port'"),
        (("publish", HELLO, "1.2.3.4:80a"), "the port '80a'"),
        (("publish", HELLO, "--port", "80a"), "'80a' is not a whole number"),
        (("publish", HELLO, "1.2.3.4:80", "--weight", "-1"), "the weight -1 is out of range"),
        (("publish", HELLO, "1.2.3.4:80", "--metadata", "zone"), "--metadata takes key=value, not 'zone'"),
        (("publish", HELLO, "1.2.3.4:80", "1.2.3.4:80"), "same instance_id"),
        (("demo", "--url", "memory://"), "lives inside one process"),
        (("demo", "--lease", "0"), "the option lease is"),
    ),
)
def test_wrong_usage_is_one_sentence_and_code_2(
    url: str, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in sentence(capsys)


@pytest.mark.parametrize(
    "arguments",
    (
        ("services", "--url", "redis://user:s3cret@127.0.0.1:1", "--timeout", "0.3"),
        ("demo", "--url", "redis://user:s3cret@127.0.0.1:1", "--timeout", "0.3"),
        ("services", "--url", "redsi://user:s3cret@h"),
        ("services", "--url", "redis://user:s3cret@h:99999999"),
        ("redis://user:s3cret@h",),
        ("lookup", HELLO, "redis://user:s3cret@h"),
        ("lookup", "redis://user:s3cret@h:1:2"),
        ("backends", "redsi://user:s3cret@h"),
        ("watch", HELLO, "--redis://user:s3cret@h"),
    ),
)
def test_no_password_is_ever_shown(url: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) in (1, 2)
    assert "s3cret" not in sentence(capsys)


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "lookup" in capsys.readouterr().out


@pytest.mark.parametrize("command", ("backends", "demo", "lookup", "publish", "services", "watch"))
def test_every_command_has_help_and_takes_a_url(command: str) -> None:
    shown = CliRunner().invoke(application.app, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert ("--url" in shown.output) is (command != "backends")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sofa-registry 0")


@pytest.mark.parametrize("library", ("typer", "rich"))
def test_without_its_libraries_it_says_what_to_install(library: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from sofa_registry_adapters.cli import main; sys.exit(main(['services']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "pip install 'sofa-registry-adapters[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Trouble.


def test_a_registry_that_cannot_be_reached_is_one_sentence_and_code_1(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lookup", HELLO, "--url", "redis://127.0.0.1:1", "--timeout", "0.3"]) == 1
    assert "redis://127.0.0.1:1 cannot be reached within 0.3 s" in sentence(capsys)


def test_a_defect_is_a_sentence_and_no_traceback(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(application.reading, "services", fail)
    assert main(["services"]) == 1
    assert "RuntimeError: boom" in sentence(capsys)


def test_a_reader_that_has_enough_is_no_error(url: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "sofa_registry_adapters.cli", "backends"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_the_characters_is_no_error(url: str) -> None:
    with Registry(url) as registry:
        registry.publish("héllo", "10.0.0.7:80")
        done = subprocess.run(
            [sys.executable, "-m", "sofa_registry_adapters.cli", "services"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "h\\xe9llo\n", "")


# Reading.


def test_backends_are_shown_with_what_is_declared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    shown = capsys.readouterr().out
    for backend in reference.backends():
        for cell in reference.backend_row(backend):
            assert cell in shown


@pytest.mark.parametrize("scheme", ("local", "memory", "redis", "rediss", "zookeeper", "zk"))
def test_one_backend_is_shown_with_every_option(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", scheme]) == 0
    shown = capsys.readouterr().out
    backend = reference.backend_named(scheme)
    assert backend.grammar in shown
    for option in table_of(backend).values():
        for cell in reference.option_row(option):
            assert cell in shown


def test_backends_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert {scheme for one in every for scheme in one["schemes"]} >= {"local", "memory", "redis", "zookeeper"}
    assert main(["backends", "redis://h", "--json"]) == 0
    redis = json.loads(capsys.readouterr().out)
    assert redis["capabilities"] == msgspec.to_builtins(reference.backend_named("redis").capabilities)
    lease = next(one for one in redis["options"] if one["name"] == "lease")
    assert (lease["unit"], lease["default"]) == ("s", 10.0)


def test_services_and_lookup(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Registry(url) as registry:
        registry.publish(HELLO, "10.0.0.7:80", weight=7, zone="a", enabled=False, metadata={"k": "v\x1b[31m"})
        assert main(["services"]) == 0
        assert capsys.readouterr().out == f"{HELLO}\n"
        assert main(["lookup", HELLO]) == 0
        shown = capsys.readouterr().out
    for cell in ("10.0.0.7:80", "7", "a", "disabled", r"k=v\x1b[31m"):
        assert cell in shown


def test_services_and_lookup_for_machines(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Registry(url) as registry:
        registry.publish("Hello:1:g", "[::1]:80", metadata={"k": "v"})
        assert main(["services", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [
            {"service": "Hello:1:g", "name": "Hello", "version": "1", "group": "g"}
        ]
        assert main(["--url", url, "lookup", "Hello:1:g", "--json"]) == 0
        view = json.loads(capsys.readouterr().out)
    assert (view["service"], view["stale"], view["protected"]) == ("Hello:1:g", False, False)
    (one,) = view["instances"]
    assert (one["address"], one["host"], one["weight"], one["metadata"]) == ("[::1]:80", "::1", 100, {"k": "v"})


def test_a_service_that_is_not_there_hints_at_the_one_that_is(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Registry(url) as registry:
        registry.publish(HELLO, "10.0.0.7:80")
        assert main(["lookup", "com.acme.Helo:1.0"]) == 0
        assert f"no instances of com.acme.Helo:1.0 on {url}: did you mean '{HELLO}'?" in sentence(capsys)


def test_the_url_comes_from_the_option_the_variable_the_file(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SOFA_REGISTRY_URL")
    (tmp_path / "sofa-registry.toml").write_text(f'[registry]\nurl = "local://{tmp_path}/file.db"\n')
    assert main(["services"]) == 0
    assert "file.db" in sentence(capsys)
    monkeypatch.setenv("SOFA_REGISTRY_URL", f"local://{tmp_path}/variable.db")
    assert main(["services"]) == 0
    assert "variable.db" in sentence(capsys)
    assert main(["services", "--url", f"local://{tmp_path}/option.db"]) == 0
    assert "option.db" in sentence(capsys)


def test_metadata_keeps_everything_after_the_first_equals_sign() -> None:
    assert read_metadata(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(InvalidArgument, match="twice"):
        read_metadata(["a=1", "a=2"])


def test_foreign_text_cannot_steer_the_terminal() -> None:
    assert printable("plain ä 服务") == "plain ä 服务"
    assert printable("a\x1b[2J\n\u202e") == "a\\x1b[2J\\n\\u202e"


# Staying.


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


# The demo.

OK = re.compile(
    r"demo: ok — 3 providers published, 1 updated in \d+ ms, 1 killed and gone after [\d.]+ m?s, "
    r"2 withdrawn within \d+ ms, on (\S+)"
)


def test_the_demo_on_local_shows_everything_and_leaves_nothing(
    url: str, tmp_path: Path, start: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOFA_REGISTRY_URL")
    command = start("demo")
    line = command.line("demo: ")
    assert (found := OK.fullmatch(line)), line
    assert found[1] == "local://"
    assert command.end() == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_leaves_a_named_registry_as_it_was(url: str, start: Callable[..., Command]) -> None:
    with Registry(url) as registry:
        registry.publish("com.acme.Hello:1.0", "10.0.0.7:80")
        command = start("demo", "--url", f"{url}?lease=3s&namespace=mine", "--lease", "1")
        assert command.line("demo: ok").endswith(f"on {url}")
        assert command.end() == (0, "")
        assert [str(one) for one in registry.services()] == ["com.acme.Hello:1.0"]


def test_the_demo_on_redis(redis_service: Service, url: str, start: Callable[..., Command]) -> None:
    command = start("demo", "--url", redis_service.url)
    assert command.end()[0] == 0
    assert OK.fullmatch(command.line("demo: "))


def test_the_demo_on_zookeeper(zookeeper_service: Service, url: str, start: Callable[..., Command]) -> None:
    command = start("demo", "--url", zookeeper_service.url)
    assert command.line("demo: ok")
    assert command.end() == (0, "")


def test_a_demo_whose_step_is_not_seen_fails_and_names_the_step(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plays: list[story.Play] = []

    class Watched(story.Play):
        def __init__(self, place: story.Scene) -> None:
            super().__init__(place._replace(death_within=0.0))
            plays.append(self)

    monkeypatch.setattr(story, "Play", Watched)
    assert main(["demo"]) == 1
    seen = capsys.readouterr()
    assert "demo: ok" not in seen.out
    assert "demo: failed: provider-1 is killed" in seen.err
    assert {actor.ended(0) is None for play in plays for actor in play.actors} == {False}


def test_a_demo_whose_process_dies_fails_with_its_last_words(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(story, "NAMES", ("provider-1", "bad\x07name", "provider-3"))
    assert main(["demo"]) == 1
    assert "control character" in capsys.readouterr().err


def test_ctrl_c_ends_the_demo_and_its_processes(url: str, tmp_path: Path, start: Callable[..., Command]) -> None:
    command = start("demo")
    command.line("provider-1 publishes")
    assert command.end(signal.SIGINT) == (130, "")
    with Registry(url) as registry:
        assert list(registry.services()) == []
    assert not list(tmp_path.glob("sofa-registry-demo*"))


def test_a_url_may_be_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOFA_REGISTRY_URL", raising=False)
    (tmp_path / "sofa-registry.toml").write_text(f'[registry.orders]\nurl = "local://{tmp_path}/orders.db"\n')
    assert main(["services", "--url", "orders"]) == 0
    assert "orders.db" in sentence(capsys)
    assert main(["--url", "ordres", "services"]) == 2
    assert "no registry is called 'ordres': did you mean 'orders'?" in sentence(capsys)
