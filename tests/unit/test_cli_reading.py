"""The command line reads: backends, services, lookups, from the option, the variable, the file, a name."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from command_line import HELLO, sentence, url

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import main, reference
from sofa_registry_adapters.cli.publishing import read_metadata
from sofa_registry_adapters.cli.screen import printable
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.settings import table_of

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["url"]


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
