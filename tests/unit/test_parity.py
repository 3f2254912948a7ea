"""The two faces and their handles have the same verbs, with the same parameters and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from sofa_registry_adapters import (
    AsyncBound,
    AsyncConfigCenter,
    AsyncConfigSubscription,
    AsyncConfigWatch,
    AsyncFieldSubscription,
    AsyncRegistration,
    AsyncRegistry,
    AsyncSubscription,
    AsyncWatch,
    Bound,
    ConfigCenter,
    ConfigSubscription,
    ConfigWatch,
    FieldSubscription,
    Registration,
    Registry,
    Subscription,
    Watch,
)

PAIRS = (
    (Registry, AsyncRegistry),
    (Registration, AsyncRegistration),
    (Subscription, AsyncSubscription),
    (Watch, AsyncWatch),
    (ConfigCenter, AsyncConfigCenter),
    (ConfigSubscription, AsyncConfigSubscription),
    (ConfigWatch, AsyncConfigWatch),
    (Bound, AsyncBound),
    (FieldSubscription, AsyncFieldSubscription),
)
OTHER_NAMES = {"close": "aclose", "__enter__": "__aenter__", "__exit__": "__aexit__", "__iter__": "__aiter__"}
ASIDE = {
    (cls, name): "a subscription ends without waiting: listeners, which are plain functions too, may end it"
    for cls in (AsyncSubscription, AsyncConfigSubscription, AsyncFieldSubscription)
    for name in ("close", "__enter__", "__exit__")
}
PLAIN = {(AsyncBound, "on"): "as events.on, it waits for nothing: the first call comes with the next change"}
"""What is no coroutine in either, and why."""
"""What an async class has beside the mapped names, and why."""


def verbs(cls: type) -> dict[str, Callable[..., Any]]:
    return {
        name: found
        for name, found in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") or name in OTHER_NAMES or name in OTHER_NAMES.values()
    }


def properties(cls: type) -> set[str]:
    return {name for name, found in inspect.getmembers(cls) if isinstance(found, property) and not name.startswith("_")}


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default, one.annotation) for one in found]


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_the_same_verbs(blocking: type, other: type) -> None:
    aside = {name for cls, name in ASIDE if cls is other}
    assert {OTHER_NAMES.get(name, name) for name in verbs(blocking)} == set(verbs(other)) - aside


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_the_same_parameters_and_defaults(blocking: type, other: type) -> None:
    for name, function in verbs(blocking).items():
        assert parameters(verbs(other)[OTHER_NAMES.get(name, name)]) == parameters(function), name


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_the_same_properties(blocking: type, other: type) -> None:
    assert properties(blocking) == properties(other)


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_one_blocks_and_the_other_does_not(blocking: type, other: type) -> None:
    for name, function in verbs(blocking).items():
        assert not inspect.iscoroutinefunction(function), name
    for name, function in verbs(other).items():
        if (other, name) not in ASIDE | PLAIN:
            assert inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function), name


def test_the_same_constructor() -> None:
    wanted = parameters(Registry.__init__)
    for cls in (AsyncRegistry, ConfigCenter, AsyncConfigCenter):
        assert parameters(cls.__init__) == wanted


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_every_verb_says_how_long_it_may_take(blocking: type, other: type) -> None:
    """Except those that wait for nothing, end in two seconds, or wait for news."""
    bounded = {"publish", "lookup", "subscribe", "watch", "services", "advertise_address"}
    bounded |= {"wait_live", "update", "unpublish"}
    bounded |= {"get", "remove", "add_listener", "keys", "history", "rollback", "bind"}
    for cls in (blocking, other):
        for name, function in verbs(cls).items():
            if name in bounded:
                assert "timeout" in inspect.signature(function).parameters, name
                bounded_default = inspect.signature(function).parameters["timeout"].default
                assert bounded_default == 5.0, name
