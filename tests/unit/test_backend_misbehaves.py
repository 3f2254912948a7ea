"""A backend that does what none may: the engine goes on, and so does whoever closes it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar

import msgspec
import pytest

from sofa_registry_adapters import ConfigCenter, Registry
from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType
from sofa_registry_adapters.spi.store import Record, RecordKey
from sofa_registry_adapters.testing.faults import eventually


class Unruly(MemoryStore):
    """Calls that end as those of a client library whose connection is closed under them; and a `close` that raises."""

    calls: ClassVar[Counter[str]] = Counter()
    given_up: ClassVar[tuple[str, int]] = ("", 0)
    """A verb, and which of its calls is cancelled from within."""
    mistake: ClassVar[Exception | None] = None

    def _count(self, verb: str) -> None:
        self.calls[verb] += 1
        if self.given_up == (verb, self.calls[verb]):
            raise asyncio.CancelledError

    async def open(self) -> None:
        self._count("open")
        await super().open()

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        self._count("put")
        return await super().put(records)

    async def renew(self) -> Collection[RecordKey]:
        self._count("renew")
        return await super().renew()

    async def close(self) -> None:
        await super().close()
        if self.mistake is not None:
            raise self.mistake


class Plugin:
    @hookimpl
    def sofa_registry_backends(self) -> Sequence[BackendType]:
        return [msgspec.structs.replace(memory.BACKEND, schemes=("unruly",), load=lambda: Unruly)]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Unruly, "calls", Counter())
    return f"unruly://?namespace={secrets.token_hex(8)}&lease=0.3s"


@pytest.mark.parametrize("given_up", (("open", 1), ("put", 1), ("renew", 2)))
def test_a_call_that_is_cancelled_from_within_is_made_again(
    url: str, given_up: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unruly, "given_up", given_up)
    with Registry(url, plugins=[Plugin()]) as registry:
        registry.publish("echo", "10.0.0.1:80", timeout=3)
        renewals = Unruly.calls["renew"]
        eventually(lambda: Unruly.calls["renew"] > renewals + 3, 5, "the heart beats on")


def test_a_verb_that_is_cancelled_from_within_is_no_close(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unruly, "given_up", ("put", 1))
    with ConfigCenter(url, plugins=[Plugin()]) as center:
        center.publish("k", "1")
        with pytest.raises(RegistryError, match="publishing DEFAULT_GROUP/k was given up by the backend itself"):
            center.publish("k", "2")
        center.publish("k", "3")


@pytest.mark.parametrize("kind", (Registry, ConfigCenter))
def test_a_close_that_raises_is_logged_as_the_backends_defect(
    url: str,
    kind: Callable[..., Registry | ConfigCenter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Unruly, "mistake", ValueError("a bug"))
    caplog.set_level(logging.ERROR)
    client = kind(url, plugins=[Plugin()]).open()
    eventually(lambda: Unruly.calls["open"], 5, "it is open")
    client.close()
    assert "failed while closing, in a way that is a defect of the backend" in caplog.text


def test_a_heart_does_not_beat_without_a_pause(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = msgspec.structs.replace(Unruly.capabilities, detects_loss_within=0.0)
    monkeypatch.setattr(Unruly, "capabilities", at_once)
    with Registry(url, plugins=[Plugin()]).open():
        eventually(lambda: Unruly.calls["renew"], 5, "the heart beats")
        before, began = Unruly.calls["renew"], time.monotonic()
        time.sleep(0.5)
        assert Unruly.calls["renew"] - before <= (time.monotonic() - began) / 0.01 + 2
