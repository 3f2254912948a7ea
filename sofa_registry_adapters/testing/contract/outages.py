"""Promises about outages: what is registered stays so, what is served stays served, no call hangs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import pytest

from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.handles import Registration
from sofa_registry_adapters.model.events import BackendLost, BackendRestored
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.contract.breaking import Faults
from sofa_registry_adapters.testing.contract.clients import Client, Recorder
from sofa_registry_adapters.testing.contract.kit import (
    ECHO,
    SLACK,
    STEP,
    Registries,
    able,
    gone_for_good,
    quietly,
    seen,
    stays,
    takes,
)
from sofa_registry_adapters.testing.faults import eventually

MINE = "10.0.0.1:1"
MANY = [f"10.0.0.{number}:1" for number in range(20)]
MARK = ServiceKey("mark")
"""A service that is published last: once it is there, what came before it is done."""
SHORT = 0.3
"""The time-out of a verb that is expected to run into it, in seconds."""


class Scene:
    """A publisher of many instances, a consumer that records, and a reader, before something breaks."""

    def __init__(self, registries: Registries, **options: Value) -> None:
        self.publisher: Registry = registries.blocking(**options)
        self.consumer: Registry
        self.recorder: Recorder
        self.consumer, self.recorder = registries.recorder(ECHO, **options)
        self.reader: Registry = registries.blocking(**options)
        self.many: Registration = self.publisher.publish(ECHO, MANY)
        self.more: list[Registration] = [self.publisher.publish(f"more {number}", MINE) for number in range(5)]
        eventually(lambda: len(self.recorder.ids) == len(MANY), STEP, "all are seen")
        self.recorder.mark()

    def recovers(self, within: float) -> None:
        """Everything is there again, owned by the publisher, and the mirror equals the truth."""
        eventually(lambda: len(quietly(lambda: seen(self.reader)) or ()) == len(MANY), within, "all are back")
        # What is gone is noticed service by service: one that is not missed yet says that it is live.
        for one in self.more:
            eventually(partial(self._is_there, one.service), within, f"{one.service} is back")
        registrations: list[Registration] = [self.many, *self.more]
        eventually(lambda: {one.state for one in registrations} == {"live"}, within, "all say that they are live")
        eventually(lambda: not self.recorder.stale, within, "the view is fresh")
        assert {one.owner for one in self.reader.lookup(ECHO)} == {self.many.instances[0].owner}
        eventually(
            lambda: set(self.consumer.lookup(ECHO)) == set(self.reader.lookup(ECHO)),
            within,
            "the mirror equals the truth",
        )

    def _is_there(self, service: ServiceKey) -> bool:
        return set(quietly(lambda: seen(self.reader, service)) or ()) == {MINE}

    def changes_flow(self, weight: int) -> None:
        """A change is seen again."""
        self.many.update(weight=weight)
        eventually(lambda: {one.weight for one in self.recorder.replica.values()} == {weight}, STEP, "a change flows")


class OutageContract:
    """``recovery_seconds``: how long after an outage everything is in the registry again."""

    recovery_seconds: ClassVar[float] = 2.0

    @pytest.mark.parametrize("leases", (0.5, 3.0))
    def test_50_restart(self, registries: Registries, faults: Faults | None, leases: float) -> None:
        """A server that is killed and started again has all registrations again; no view was ever smaller."""
        broken = able(faults, "kill", "start")
        scene = Scene(registries)
        lost: list[BackendLost] = []
        back: list[BackendRestored] = []
        scene.publisher.events.on(BackendLost, lost.append)
        scene.publisher.events.on(BackendRestored, back.append)
        broken.kill()
        stays(lambda: len(scene.recorder.ids) == len(MANY), registries.lease * leases, "the outage")
        broken.start()
        scene.recovers(self.recovery_seconds + SLACK)
        scene.changes_flow(7)
        assert scene.recorder.smallest == len(MANY), "no view was ever smaller"
        assert len(lost) == len(back) <= 1, "one event for an outage and one for its end"

    def test_51_wipe(self, registries: Registries, faults: Faults | None) -> None:
        """A server that loses everything has all registrations again; no subscriber saw an empty list."""
        broken = able(faults, "wipe")
        scene = Scene(registries)
        for weight in (1, 2):
            broken.wipe()
            scene.recovers(self.recovery_seconds + SLACK)
            scene.changes_flow(weight)
        assert scene.recorder.smallest == len(MANY), "no view was ever smaller"

    def test_52_a_server_that_hangs(self, registries: Registries, faults: Faults | None) -> None:
        """While the server hangs every verb ends in its time-out, and views stay: first stale, then fresh again."""
        broken = able(faults, "pause", "resume")
        scene = Scene(registries, call_timeout=1.0)
        late = registries.blocking(call_timeout=1.0)
        broken.pause()
        try:
            for registry in (scene.publisher, late):
                self._all_verbs_end(registry)
            with takes(SHORT, "update"), pytest.raises(Unavailable):
                scene.more[0].update(weight=3, timeout=SHORT)
            eventually(lambda: scene.recorder.stale, registries.lease + STEP, "the view is stale")
            assert scene.consumer.lookup(ECHO).age > 0
            with takes(0.1, "lookup of what is watched"):
                assert {one.instance_id for one in scene.consumer.lookup(ECHO)} == set(MANY)
        finally:
            broken.resume()
        scene.recovers(self.recovery_seconds + registries.lease + SLACK)
        scene.changes_flow(7)
        assert scene.reader.lookup("more 0")[0].weight == 3, "an update stays wanted"
        assert scene.recorder.smallest == len(MANY), "no view was ever smaller"

    def test_52_a_server_that_is_down(self, registries: Registries, faults: Faults | None) -> None:
        """While the server is down every verb ends in its time-out with Unavailable."""
        broken = able(faults, "kill", "start")
        scene, late = Scene(registries), registries.blocking()
        broken.kill()
        try:
            for registry in (scene.publisher, late):
                self._all_verbs_end(registry)
        finally:
            broken.start()
        scene.recovers(self.recovery_seconds + SLACK)

    @staticmethod
    def _all_verbs_end(registry: Registry) -> None:
        verbs: dict[str, Callable[[], object]] = {
            "lookup": lambda: registry.lookup("unwatched", timeout=SHORT),
            "services": lambda: registry.services(timeout=SHORT),
            "publish": lambda: registry.publish("late", MINE, timeout=SHORT),
            "subscribe": lambda: registry.subscribe("late", Recorder(), timeout=SHORT),
            "watch": lambda: registry.watch("late", timeout=SHORT),
        }
        for name, verb in verbs.items():
            with takes(SHORT * 1.1, name), pytest.raises(Unavailable):
                verb()

    @pytest.mark.parametrize("when", ("unnoticed", "noticed"))
    def test_53_a_withdrawal_during_an_outage(self, registries: Registries, faults: Faults | None, when: str) -> None:
        """What is withdrawn while the server is down, noticed or not, stays withdrawn when it comes back."""
        broken = able(faults, "kill", "start")
        publisher, reader = registries.blocking(), registries.blocking()
        registration = publisher.publish(ECHO, MINE)
        staying = publisher.publish("staying", MINE)
        lost: list[BackendLost] = []
        publisher.events.on(BackendLost, lost.append)
        broken.kill()
        if when == "noticed":
            eventually(lambda: lost, registries.lease + STEP, "the outage is noticed")
        with takes(SHORT, "unpublish"), pytest.raises(Unavailable):
            registration.unpublish(timeout=SHORT)
        assert registration.state == "withdrawn"
        broken.start()
        publisher.publish(MARK, MINE, required=False).wait_live(timeout=STEP * 2)
        gone_for_good(reader)
        eventually(lambda: set(seen(reader, ServiceKey("staying"))) == {MINE}, STEP, "the rest is back")
        assert staying.state == "live"

    def test_53_a_withdrawal_racing_recovery(self, registries: Registries, faults: Faults | None) -> None:
        """What is withdrawn while it is being published again after a loss of all data stays withdrawn."""
        broken = able(faults, "wipe")
        publisher, reader = registries.blocking(), registries.blocking()
        for number in range(4):
            service = ServiceKey(f"racing {number}")
            registration = publisher.publish(service, MANY)
            broken.wipe()
            publisher.publish(MARK, f"10.0.9.{number}:1", required=False)
            with contextlib.suppress(Unavailable):
                registration.unpublish(timeout=STEP)
            gone_for_good(reader, service, 0.5)
        eventually(lambda: len(seen(reader, MARK)) == 4, STEP, "what stayed wanted is there")

    def test_54_cut_connections(self, registries: Registries, faults: Faults | None) -> None:
        """Connections that are reset again and again, under changes, cost no change and no registration."""
        broken = able(faults, "cut")
        scene = Scene(registries)
        for weight in range(1, 11):
            broken.cut()
            scene.many.update(weight=weight)
            broken.cut()
        scene.recovers(self.recovery_seconds + SLACK)
        eventually(lambda: {one.weight for one in scene.recorder.replica.values()} == {10}, STEP, "the last change")
        assert scene.recorder.smallest == len(MANY)

    def test_55_errors_name_no_secret_and_heal(self, registries: Registries, faults: Faults | None) -> None:
        """An error says which registry, what happened and to which service; the next call after it works."""
        broken = able(faults, "kill", "start")
        registry = Client(registries.blocking(), None)
        registry.publish(ECHO, MINE)
        broken.kill()
        try:
            with pytest.raises(RegistryError) as caught:
                registry.registry.subscribe("echo two", Recorder(), timeout=SHORT)
        finally:
            broken.start()
        assert str(registry.registry.target) in str(caught.value)
        assert "echo two" in str(caught.value)
        eventually(lambda: quietly(lambda: registry.ids("echo two")) is not None, STEP, "the next call works")
