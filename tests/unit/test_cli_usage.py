"""The command line used wrongly or in trouble: one sentence and an exit code, no password, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from command_line import HELLO, ROOT, sentence, url
from typer.testing import CliRunner

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import app as application
from sofa_registry_adapters.cli import main

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["url"]


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
