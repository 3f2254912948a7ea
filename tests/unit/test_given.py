"""What somebody gives a Registry or a ConfigCenter by mistake is refused in a sentence, when it is made."""

from __future__ import annotations

import pytest

from sofa_registry_adapters import AsyncConfigCenter, AsyncRegistry, ConfigCenter, Registry
from sofa_registry_adapters.errors import InvalidArgument, PluginError

FACES = pytest.mark.parametrize("face", (Registry, AsyncRegistry, ConfigCenter, AsyncConfigCenter))


@FACES
@pytest.mark.parametrize(
    ("given", "said"),
    (
        ({"options": ["call_timeout", "s3cret"]}, "options= maps names to values: write options="),
        ({"options": {1: "s3cret"}}, "options= maps names to values: write options="),
        ({"options": "call_timeout=s3cret"}, "options= maps names to values: write options="),
        ({"plugins": "s3cret"}, r"write plugins=\['name'\]"),
        ({"plugins": 5}, r"write plugins=\['name'\]"),
        ({"credentials": ("ann", "s3cret")}, "credentials= is a function"),
        ({"credentials": "ann:s3cret"}, "credentials= is a function"),
    ),
)
def test_what_it_is_not(face: type[Registry], given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        face("memory://", **given)  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


def test_a_plug_in_where_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sofa_registry_adapters.engine.plugins._entry_points", tuple)
    with pytest.raises(PluginError, match=r"is called 'nope'\. There is none$"):
        Registry("memory://", plugins=["nope"])


def test_a_url_is_no_address() -> None:
    with Registry("memory://") as registry:
        for address in ("http://10.0.0.7:80", "10.0.0.7:80/path", "//10.0.0.7:80"):
            with pytest.raises(InvalidArgument, match="is not 'host:port'"):
                registry.publish("com.acme.Hello", address)
