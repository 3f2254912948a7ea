"""Connecting, and connecting again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sofa_registry_adapters.engine.lifeline import Lifeline
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.retry import REACHABILITY, REFUSAL
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.model.events import Event
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.testing.clock import ManualClock


class Door:
    """A backend that answers each attempt as the script says, then opens."""

    capabilities = Capabilities()

    def __init__(self, *script: RegistryError) -> None:
        self.script = list(script)

    async def open(self) -> None:
        if self.script:
            raise self.script.pop(0)

    async def renew(self) -> Any:
        return None

    async def lost(self) -> None:
        await asyncio.Event().wait()


async def seconds_until_open(door: Door, most: float) -> tuple[float, float]:
    """How long it took to open, and how long since the script was down to its last answer."""
    clock, events = ManualClock(), list[Event]()
    lifeline = Lifeline(door, "door://", 5.0, clock, Link("door://", clock, events.append))
    began = last = clock.monotonic()
    lifeline.start()
    try:
        while not lifeline.ready.is_set() and clock.monotonic() < began + most:
            for _ in range(10):
                await asyncio.sleep(0)
            if len(door.script) == 1:
                last = clock.monotonic()
            clock.advance(0.05)
        assert lifeline.ready.is_set()
        return clock.monotonic() - began, clock.monotonic() - last
    finally:
        await lifeline.stop()


def test_a_refusal_after_a_long_outage_is_asked_about_again_soon() -> None:
    outage = [Unavailable("starting")] * 40
    _, since = asyncio.run(seconds_until_open(Door(*outage, Denied("no accounts yet")), 200.0))
    assert since <= REACHABILITY.most + REFUSAL.first + 0.2


def test_refusals_that_go_on_are_asked_about_less_and_less() -> None:
    taken, _ = asyncio.run(seconds_until_open(Door(*[Denied("wrong password")] * 10), 500.0))
    assert taken > REFUSAL.most * 0.5 * 4


class Heart(Door):
    """A backend that is renewed, and fails now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.renewals = 0

    async def renew(self) -> Any:
        self.renewals += 1
        if self.renewals % 3 == 2:
            raise Unavailable("away")
        return None


async def renewals_within(seconds: float, renewed: Callable[[Any], None]) -> int:
    clock, heart = ManualClock(), Heart()
    lifeline = Lifeline(heart, "door://", 5.0, clock, Link("door://", clock, list[Event]().append), lease=lambda: 3.0)
    lifeline.renewed = renewed
    lifeline.start()
    try:
        for _ in range(int(seconds / 0.1)):
            for _ in range(10):
                await asyncio.sleep(0)
            clock.advance(0.1)
        return heart.renewals
    finally:
        await lifeline.stop()


class _Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the log server is away")


def test_a_log_that_fails_does_not_end_the_heartbeat(capsys: pytest.CaptureFixture[str]) -> None:
    root, broken = logging.getLogger(), _Broken()
    root.addHandler(broken)
    try:
        assert asyncio.run(renewals_within(60, lambda _: None)) >= 20
    finally:
        root.removeHandler(broken)
    assert "the log server is away" in capsys.readouterr().err


def test_an_answer_that_cannot_be_used_does_not_end_the_heartbeat() -> None:
    def stumble(_: object) -> None:
        raise TypeError("what is that")

    assert asyncio.run(renewals_within(60, stumble)) >= 20
