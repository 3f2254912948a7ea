"""The demo shows everything and leaves nothing."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, start, url

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.cli.demo import story
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["start", "url"]

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
