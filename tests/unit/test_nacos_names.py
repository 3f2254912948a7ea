from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sofa_registry_adapters.backends.nacos.names import MAX_LENGTH, is_shortened, service_key, service_name
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.contract.naming import HARD

PART = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=255)
NAME = PART.filter(bool)
TRICKY = st.text("_:ABHF05%.é", min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("key", "name"),
    (
        (ServiceKey("com.acme.Echo"), "com.acme.Echo"),
        (ServiceKey("com.acme.Echo", "1.0"), "com.acme.Echo:1.0"),
        (ServiceKey("com.acme.Echo", "1.0", "blue"), "com.acme.Echo:1.0:blue"),
        (ServiceKey("echo", "", "blue"), "echo::blue"),
        (ServiceKey("snake_case-and-more"), "snake_case-and-more"),
        (ServiceKey("__init__"), "__init__"),
        (ServiceKey("a/b"), "a__2Fb"),
        (ServiceKey("a:b"), "a__3Ab"),
        (ServiceKey("a__2Fb"), "a__5F_2Fb"),
        (ServiceKey("é"), "__C3__A9"),
    ),
)
def test_a_readable_name_stays_and_others_are_encoded(key: ServiceKey, name: str) -> None:
    assert service_name(key) == name
    assert service_key(name) == key


@given(name=NAME, version=PART, group=PART)
@example("x" * 255, "y" * 255, "z" * 255)
def test_nacos_takes_every_name(name: str, version: str, group: str) -> None:
    key = ServiceKey(name, version, group)
    assert re.fullmatch(rf"[A-Za-z0-9_:.-]{{1,{MAX_LENGTH}}}", service_name(key))
    assert is_shortened(key) or service_key(service_name(key)) == key


@given(TRICKY, TRICKY, TRICKY)
@example("___AB", "__H", "_")
@example("é_H", "__5F", "___")
@example("_\u00e9", "", "")
def test_different_keys_have_different_names(name: str, version: str, group: str) -> None:
    key = ServiceKey(name, version, group)
    assert service_key(service_name(key)) == key


def test_a_name_that_is_shortened_is_still_its_own() -> None:
    keys = [ServiceKey("x" * 250 + end) for end in ("a", "b", "é")]
    names = [service_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(is_shortened(key) for key in keys)
    assert [service_key(name) for name in names] == [None] * len(keys)
    literally = ServiceKey(names[0])
    assert service_name(literally) != names[0]
    assert not any(is_shortened(ServiceKey(name)) for name in ("a__Hb", "__H", "a_H"))


@pytest.mark.parametrize("name", ("providers:com.acme.Echo:1.0:", "a/b", "", "é", "a:::b", ":1.0", "a:"))
def test_names_of_others_that_no_key_has(name: str) -> None:
    assert service_key(name) is None


def test_hard_names_differ() -> None:
    assert len({service_name(ServiceKey(name)) for name in HARD}) == len(HARD)
