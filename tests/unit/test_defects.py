"""What a backend raises and none may is told as its defect, with its type, at once; an outage is another thing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest

from sofa_registry_adapters import ConfigCenter, Registry
from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.errors import BackendDefect
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType
from sofa_registry_adapters.testing.faults import eventually


class Flawed(MemoryStore):
    """`flawed` names the verb that has a mistake."""

    flawed: ClassVar[str] = ""

    def __getattribute__(self, name: str) -> Any:
        if name == Flawed.flawed:

            def verb(*_: object) -> Any:
                return len(True)  # type: ignore[arg-type]

            return verb
        return super().__getattribute__(name)


class Plugin:
    @hookimpl
    def sofa_registry_backends(self) -> list[BackendType]:
        fields = {"schemes": ("flawed",), "load": lambda: Flawed, "defaults": {"snapshot": "off"}}
        return [msgspec.structs.replace(memory.BACKEND, **fields)]


VERBS: dict[str, tuple[str, Callable[[Registry], object]]] = {
    "lookup": ("open", lambda registry: registry.lookup("a")),
    "publish": ("open", lambda registry: registry.publish("a", "h:1")),
    "subscribe": ("open", lambda registry: registry.subscribe("a", lambda _: None)),
    "write": ("put", lambda registry: registry.publish("a", "h:1")),
    "read": ("read", lambda registry: registry.lookup("a")),
    "watch": ("watch", lambda registry: registry.subscribe("a", lambda _: None)),
    "list": ("buckets", lambda registry: registry.services()),
}


@pytest.mark.parametrize("case", VERBS)
def test_a_defect_is_told_at_once_and_by_its_name(
    case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flawed, verb = VERBS[case]
    monkeypatch.setattr(Flawed, "flawed", flawed)
    with Registry(f"flawed://{uuid.uuid4().hex}", plugins=[Plugin()]) as registry:
        began = time.monotonic()
        with pytest.raises(BackendDefect) as caught:
            verb(registry)
        assert time.monotonic() - began < 3, "nobody waits for the five seconds of an outage"
        assert "a defect of the backend: TypeError: object of type 'bool' has no len()" in str(caught.value)
        assert isinstance(caught.value.__cause__, TypeError)
        assert any(one.exc_info and "a defect of the backend" in one.getMessage() for one in caplog.records)
        monkeypatch.setattr(Flawed, "flawed", "")


def test_an_update_that_meets_a_defect_raises_and_is_made_once_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry(f"flawed://{uuid.uuid4().hex}", plugins=[Plugin()]) as registry:
        registration = registry.publish("a", "h:1")
        monkeypatch.setattr(Flawed, "flawed", "put")
        with pytest.raises(BackendDefect):
            registration.update(weight=7)
        assert registration.state == "lost"
        monkeypatch.setattr(Flawed, "flawed", "")
        eventually(lambda: registration.state == "live", 5.0, "it is made again")
        assert registry.lookup("a")[0].weight == 7


def test_the_command_line_says_whose_defect_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(MemoryStore, "open", lambda _: len(True))  # type: ignore[arg-type]
    url = f"memory://{uuid.uuid4().hex}"
    assert main(["lookup", "a", "--url", url]) == 1
    said = capsys.readouterr().err
    assert f"{url} failed while connecting, and that is a defect of the backend: TypeError" in said
    assert "reached" not in said
    monkeypatch.setenv("SOFA_REGISTRY_TRACEBACK", "1")
    with pytest.raises(BackendDefect):
        main(["lookup", "a", "--url", url])


CONFIG_VERBS: dict[str, tuple[str, Callable[[ConfigCenter], object]]] = {
    "get": ("read", lambda config: config.get("a.yaml")),
    "publish": ("compare_and_put", lambda config: config.publish("a.yaml", "x: 1")),
    "remove": ("read", lambda config: config.remove("a.yaml")),
    "keys": ("buckets", lambda config: config.keys()),
    "history": ("read", lambda config: config.history("a.yaml")),
    "rollback": ("read", lambda config: config.rollback("a.yaml")),
}


@pytest.mark.parametrize("case", CONFIG_VERBS)
def test_a_defect_of_a_config_center_is_told_as_well(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flawed, verb = CONFIG_VERBS[case]
    monkeypatch.setattr(Flawed, "flawed", flawed)
    with ConfigCenter(f"flawed://{uuid.uuid4().hex}", plugins=[Plugin()]) as config:
        began = time.monotonic()
        with pytest.raises(BackendDefect, match="a defect of the backend: TypeError") as caught:
            verb(config)
        assert time.monotonic() - began < 3
        assert isinstance(caught.value.__cause__, TypeError)
