"""`sofa-registry config …` as a user meets it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sofa_registry_adapters import ConfigCenter
from sofa_registry_adapters.cli import main

ROOT = Path(__file__).parents[2]
KEY = "app.yaml"
SECRET = "s3cret: 1\n"
Say = Callable[..., str]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A center of the test's own, which is also the one that is used where none is named."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.chdir(tmp_path)
    url = f"local://{tmp_path}/config.db"
    monkeypatch.setenv("SOFA_CONFIG_URL", url)
    return url


@pytest.fixture
def config(url: str) -> Iterator[ConfigCenter]:
    with ConfigCenter(url, options={"snapshot": "off"}) as config:
        yield config


@pytest.fixture
def say(url: str, capfdbinary: pytest.CaptureFixture[bytes]) -> Say:
    """Run a command that succeeds; what it says on standard output. ``said``: what it notes besides."""

    def run(*arguments: str, code: int = 0, said: str = "") -> str:
        assert main(["config", *arguments]) == code, capfdbinary.readouterr()
        seen = capfdbinary.readouterr()
        notes = seen.err.decode()
        assert said in notes
        assert bool(said) is bool(notes)
        assert all(line.startswith("sofa-registry: ") for line in notes.splitlines())
        assert "s3cret" not in notes
        return seen.out.decode("utf-8", "surrogateescape")

    return run


def editor(tmp_path: Path, program: str) -> str:
    """The value of EDITOR: a program that is given the file."""
    script = tmp_path / "an editor"
    script.write_text(f"import os, sys\npath = sys.argv[-1]\n{program}\n")
    return shlex.join((sys.executable, str(script)))


def test_set_get_and_rm(say: Say, config: ConfigCenter) -> None:
    revision = say("set", KEY, SECRET).strip()
    item = config.get(KEY)
    assert item is not None
    assert (item.content, item.revision, item.content_type) == (SECRET, revision, "yaml")
    assert say("get", KEY) == SECRET
    found = json.loads(say("get", KEY, "--json"))
    assert (found["content"], found["revision"], found["bytes"]) == (SECRET, revision, len(SECRET))
    assert found["author"] == item.author
    assert (
        say("set", KEY, "b: 2", "--group", "other", "--json")
        == json.dumps(
            {"revision": config.get(KEY, group="other").revision},  # type: ignore[union-attr]
            separators=(",", ":"),
        )
        + "\n"
    )
    assert say("rm", KEY) == ""
    assert config.get(KEY) is None
    say("rm", KEY, code=1, said=f"DEFAULT_GROUP/{KEY} has no value on local://")
    say("get", KEY, code=1, said="has no value")
    say("get", KEY[:-1], "--group", "other", code=1, said=f"did you mean '{KEY}'?")


def test_a_value_comes_from_a_file_or_a_pipe_byte_for_byte(
    say: Say, config: ConfigCenter, tmp_path: Path, url: str
) -> None:
    file, copy = tmp_path / "value", tmp_path / "copy"
    for data in (b"a\r\nb\x00", b"\xff\xfe\x00", b""):
        file.write_bytes(data)
        say("set", "raw", "--file", str(file))
        assert say("get", "raw").encode("utf-8", "surrogateescape") == data
        copy.write_bytes(b"longer than before")
        copy.chmod(0o644)
        say("get", "raw", "--output", str(copy))
        assert copy.read_bytes() == data
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        subprocess.run(
            [sys.executable, "-m", "sofa_registry_adapters.cli", "config", "set", "piped", "-"],
            input=data,
            check=True,
            stdout=subprocess.PIPE,
        )
        assert config.get("piped").data == data  # type: ignore[union-attr]


def test_conditions(say: Say, config: ConfigCenter) -> None:
    first = say("set", KEY, "1", "--create").strip()
    say("set", KEY, "2", "--create", code=1, said="and was expected to have none")
    second = say("set", KEY, "2", "--expect", first).strip()
    say("set", KEY, "3", "--expect", first, code=1, said=f"is at the revision {second}, and was expected at {first}")
    say("rm", KEY, "--expect", first, code=1, said=second)
    say("rollback", KEY, "--expect", first, code=1, said=second)
    assert config.get(KEY).text == "2"  # type: ignore[union-attr]
    say("rm", KEY, "--expect", second)


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("set", "app.json", "{"), "is declared to be json, and is not"),
        (("set", KEY, "a = ", "--type", "toml"), "is declared to be toml, and is not"),
        (("set", KEY, "1", "--create", "--expect", "local:1-0"), "give one"),
        (("set", KEY, "1", "--file", "x"), "keep one"),
        (("set", KEY, "--file", "missing"), "missing cannot be read: No such file or directory"),
        (("get", KEY, "--output", "no/such/folder", "--group", ""), "the configuration group is empty"),
        (("get", "a\nb"), "has the control character"),
        (("rollback", KEY), "there is no value before the present one"),
        (("rollback", KEY, "elsewhere:1"), "is no revision of this config center"),
        (("diff", KEY, "local:1-0", "--file", "x"), "leave the revision out"),
        (("gte", KEY), "there is no command config 'gte': did you mean 'get'?"),
        (("get",), "missing argument 'KEY'"),
        (("ls", "--url", "redsi://x"), "did you mean 'redis'?"),
    ),
)
def test_wrong_usage_is_one_sentence_and_code_2(say: Say, arguments: tuple[str, ...], said: str) -> None:
    assert say(*arguments, code=2, said=said) == ""


def test_trouble_is_code_1(say: Say) -> None:
    for arguments in (("get", KEY), ("ls",), ("history", KEY), ("watch", KEY)):
        say(*arguments, "--url", "redis://:s3cret@127.0.0.1:1", "--timeout", "0.3", code=1, said=" 0.3 s: ")


def test_without_a_command_the_help_is_shown(say: Say) -> None:
    assert "rollback" in say(code=2)


def test_ls_history_rollback_and_diff(say: Say, config: ConfigCenter, tmp_path: Path) -> None:
    say("ls", said="no keys in the group DEFAULT_GROUP")
    say("history", KEY, code=1, said="has no value")
    revisions = [config.publish(KEY, f"a: {number}\nb: s3cret\n", content_type="yaml") for number in range(3)]
    say("diff", "other", code=1, said="has no value")
    config.publish("b", b"\xff")
    assert say("ls") == f"{KEY}\nb\n"
    assert json.loads(say("ls", "--json")) == [KEY, "b"]
    lines = say("history", KEY).splitlines()[2:]
    assert [line.split()[0] for line in lines] == revisions[::-1]
    assert all("yaml" in line and f":{os.getpid()}" in line for line in lines)
    assert [one["revision"] for one in json.loads(say("history", KEY, "--json", "--limit", "2"))] == revisions[:0:-1]
    assert "s3cret" not in say("history", KEY) + say("history", KEY, "--json")
    assert say("diff", KEY).splitlines()[3:] == ["-a: 1", "+a: 2", " b: s3cret"]
    assert say("diff", KEY, revisions[0]).splitlines()[3:5] == ["-a: 0", "+a: 2"]
    assert say("diff", KEY, revisions[0], revisions[1]).splitlines()[:2] == [
        f"--- {revisions[0]}",
        f"+++ {revisions[1]}",
    ]
    say("diff", KEY, revisions[1], revisions[1], said="they are equal")
    say("diff", "b", code=2, said="there is no value of DEFAULT_GROUP/b before")
    (tmp_path / "file").write_bytes(b"a: 2\nb: 4\n")
    assert "+b: 4" in say("diff", KEY, "--file", "file")
    (tmp_path / "file").write_bytes(b"\xfe")
    assert "one of them is no text" in say("diff", KEY, "--file", "file")
    (tmp_path / "file").write_bytes(b"a: 2\r\nb: s3cret\r\n")
    assert say("diff", KEY, "--file", "file") == "they differ in line ends only\n"
    fresh = say("rollback", KEY, revisions[0]).strip()
    assert (config.get(KEY).revision, config.get(KEY).text) == (fresh, "a: 0\nb: s3cret\n")  # type: ignore[union-attr]
    say("rollback", KEY)
    assert config.get(KEY).text == "a: 2\nb: s3cret\n"  # type: ignore[union-attr]


def test_edit_publishes_what_was_changed(
    say: Say, config: ConfigCenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.publish(KEY, "size: 1\r\n", content_type="text")
    seen = tmp_path / "seen"
    look = f"open({str(seen)!r}, 'w').write(oct(os.stat(path).st_mode & 0o777) + oct(os.stat(os.path.dirname(path)).st_mode & 0o777) + path)"
    change = "data = open(path, 'rb').read(); open(path, 'wb').write(data.replace(b'1', b'2'))"
    monkeypatch.setenv("EDITOR", editor(tmp_path, f"{look}\n{change}"))
    revision = say("edit", KEY).strip()
    item = config.get(KEY)
    assert item is not None
    assert (item.content, item.revision, item.content_type) == ("size: 2\r\n", revision, "text")
    assert re.fullmatch(r"0o6000o700.*/value\.yaml", seen.read_text())
    assert not Path(seen.read_text()[10:]).parent.exists()
    monkeypatch.setenv("VISUAL", editor(tmp_path, "open(path, 'w').write('{}')"))
    say("edit", "new.json")
    assert config.get("new.json").content_type == "json"  # type: ignore[union-attr]


def test_edit_changes_nothing_behind_anybodys_back(
    say: Say, config: ConfigCenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.publish(KEY, "size: 1")
    monkeypatch.setenv("EDITOR", editor(tmp_path, ""))
    assert say("edit", KEY, said="was left as it is") == ""
    program = "open(path, 'w').write('mine'); os.system(chr(34) + sys.executable + chr(34) + ' -m sofa_registry_adapters.cli config set app.yaml theirs >/dev/null')"
    monkeypatch.setenv("EDITOR", editor(tmp_path, program))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    say("edit", KEY, code=1, said="nothing was published\nsofa-registry: what you wrote is in ")
    assert config.get(KEY).text == "theirs"  # type: ignore[union-attr]
    (kept,) = tmp_path.glob("sofa-registry-*/value.yaml")
    assert kept.read_text() == "mine"
    monkeypatch.setenv("EDITOR", editor(tmp_path, "sys.exit(3)"))
    say("edit", KEY, code=1, said="the editor ended with 3: nothing was published")
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    say("edit", KEY, code=2, said="set EDITOR")
    config.publish(KEY, b"\xff")
    say("edit", KEY, code=2, said="bytes that are no text")


def test_watch_is_one_line_a_change_without_the_value(config: ConfigCenter, url: str) -> None:
    command = [sys.executable, "-m", "sofa_registry_adapters.cli", "config", "watch", KEY]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as machine:
        assert machine.stdout is not None
        try:
            assert json.loads(machine.stdout.readline())["item"] is None
            revision = config.publish(KEY, SECRET)
            line = machine.stdout.readline()
            found = json.loads(line)
            assert (found["item"]["revision"], found["previous"], found["key"]) == (revision, None, KEY)
            assert "s3cret" not in line
            config.remove(KEY)
            found = json.loads(machine.stdout.readline())
            assert (found["item"], found["previous"]) == (None, revision)
        finally:
            machine.send_signal(signal.SIGINT)
        assert machine.wait(10) in (0, 130)
    with subprocess.Popen([*command, "--content"], stdout=subprocess.PIPE, text=True) as people:
        assert people.stdout is not None
        try:
            assert people.stdout.readline().rstrip().endswith(f"DEFAULT_GROUP/{KEY}  no value")
            revision = config.publish(KEY, SECRET, content_type="yaml")
            assert f"  {revision}  {len(SECRET)} bytes  yaml  by " in people.stdout.readline()
            assert people.stdout.readline() == SECRET
        finally:
            people.send_signal(signal.SIGINT)


def test_a_secret_is_asked_for_unseen_on_a_terminal(config: ConfigCenter) -> None:
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-m", "sofa_registry_adapters.cli", "config", "set", "token"])
    shown = b""
    deadline = time.monotonic() + 20
    typed = False
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 1000)
            except OSError:
                break
        if b"not shown" in shown and not typed:
            typed = True
            os.write(terminal, b"s3cret\n")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"s3cret" not in shown
    assert config.get("token").text == "s3cret"  # type: ignore[union-attr]


def test_a_value_on_a_terminal_cannot_steer_it(config: ConfigCenter) -> None:
    config.publish("text", "plain\x1b]0;title\x07")
    config.publish("bytes", b"\xff\x1b")
    shown = on_a_terminal("get", "text")
    assert b"\x1b" not in shown
    assert b"plain\\x1b" in shown
    assert b"write it with --output" in on_a_terminal("get", "bytes")


def on_a_terminal(*arguments: str) -> bytes:
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-m", "sofa_registry_adapters.cli", "config", *arguments])
    shown = b""
    try:
        while data := os.read(terminal, 1000):
            shown += data
    except OSError:
        pass
    os.close(terminal)
    os.waitpid(child, 0)
    return shown


def test_nothing_of_a_value_stays_on_this_machine(say: Say, config: ConfigCenter, tmp_path: Path) -> None:
    config.publish(KEY, SECRET)
    assert say("get", KEY) == SECRET
    assert not list(tmp_path.rglob("*.json"))
    say("get", KEY, "--url", f"local://{tmp_path}/config.db?snapshot={tmp_path}/kept")
    assert len(list((tmp_path / "kept").iterdir())) == 1, "unless the URL asks for it"


def test_a_value_without_its_quotes_is_not_shown(say: Say, config: ConfigCenter) -> None:
    say("set", KEY, "my", "s3cret", code=2, said="put one with spaces into quotes")
    assert config.get(KEY) is None
