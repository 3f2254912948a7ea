"""The command `doctor`: its codes, its report for machines, its questions."""

from __future__ import annotations

import asyncio
import json
import pathlib
from typing import Any

import pytest
from doctor_reports import HELLO, fresh, home, put, report_on, room, value_of

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.cli.doctor import command
from sofa_registry_adapters.testing.faults import free_port
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["home", "room"]


def test_a_good_registry_is_code_0(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    url = f"local://{tmp_path}/registry.db"
    with Registry(url) as registry:
        registry.publish(str(HELLO), "127.0.0.1:80")
        assert main(["doctor", "--url", url]) == 0
    said = capsys.readouterr().out
    assert "ok  records     1 record of 1 service" in said
    assert said.endswith("\nnothing is wrong\n")


def test_findings_are_code_1_and_name_what_was_not_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", f"redis://127.0.0.1:{free_port()}"]) == 1
    said = capsys.readouterr().out
    assert "error: tcp: 127.0.0.1:" in said
    assert "1 error; not examined: TLS, login, permission, version, clock, records" in said
    assert main(["doctor", "--url", f"redis://127.0.0.1:{free_port()}", "--fix", "--yes"]) == 1
    assert "nothing is removed: the examination did not come as far" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("--yes",), "--yes goes with --fix"),
        (("--record", "a/b"), "--record goes with --fix"),
        (("--fix",), "there is nobody to ask: add --yes"),
        (("--fix", "--json"), "there is nobody to ask: add --yes"),
        (("--fix", "--yes", "--record", "a"), "--record takes SERVICE/RECORD"),
        (("--service", "a:b:c:d"), "has 4 parts"),
        (("--timeout", "0"), "a timeout is a number of seconds above 0"),
        (("--prob",), "did you mean '--probe'?"),
    ),
)
def test_wrong_usage_is_code_2(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", "memory://", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_report_for_machines(room: tuple[str, Space], capsys: pytest.CaptureFixture[str]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of())
    assert main(["doctor", "--url", url, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["url"], told["ok"], told["steps"][-1]["step"]) == (url, False, "records")
    assert told["findings"][0]["code"] == "owner-gone"
    assert told["findings"][0]["sentence"].endswith("--fix removes it.")
    assert main(["doctor", "--url", url, "--json", "--fix", "--yes"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["outcomes"][0]["removed"]) == (True, True)


@pytest.mark.parametrize(("agreed", "code"), ((True, 0), (False, 1)))
def test_fix_shows_and_asks_first(
    room: tuple[str, Space],
    agreed: bool,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())

    def confirm(question: str, **_: object) -> bool:
        assert "to be removed: com.acme.Hello:1.0/10.0.0.7:80: its owner is gone" in capsys.readouterr().out
        assert question == "Remove this record?"
        assert place.peek(key) is not None
        return agreed

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(command.typer, "confirm", confirm)
    assert main(["doctor", "--url", url, "--fix"]) == code
    assert (place.peek(key) is None) is agreed


def test_many_findings_of_a_kind_are_counted(room: tuple[str, Space], capsys: pytest.CaptureFixture[str]) -> None:
    url, place = room
    for port in range(1, 31):
        put(place, f"10.0.0.7:{port}", b"{", owned=True)
    main(["doctor", "--url", url])
    said = capsys.readouterr().out
    assert said.count("the record cannot be decoded") == 20
    assert "and 10 more of undecodable; --json has them all" in said


def test_each_await_is_bounded(redis_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> Any:
        await asyncio.sleep(60)

    for verb, said in (("open", "signing in"), ("read", "reading"), ("put", "writing"), ("buckets", "reading")):
        with monkeypatch.context() as patched:
            patched.setattr(RedisStore, verb, hang)
            report = report_on(fresh(redis_service), timeout=0.2)
        assert f"no answer within 0.2 s while {said}" in report.findings[0].sentence
