"""Promises about life and death: who is alive stays, who is dead goes, and who is newer holds the id."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sofa_registry_adapters.model.events import (
    ProtectionEnded,
    ProtectionStarted,
    Published,
    RegistrationConflict,
    RegistrationLost,
)
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.testing.contract.breaking import Faults
from sofa_registry_adapters.testing.contract.clients import Client
from sofa_registry_adapters.testing.contract.kit import (
    ECHO,
    SHORT_HOLD,
    STEP,
    Registries,
    able,
    needs_an_end_for_the_silent,
    needs_processes,
    needs_takeover,
    seen,
    stays,
)
from sofa_registry_adapters.testing.faults import PythonProcess, eventually

MINE = "10.0.0.1:1"
START = 20.0
"""How long a child process may take to start and to publish, in seconds."""
WAKE = 1.0
"""Seconds in which a process that was stopped for longer than its lease publishes again."""


class LivingContract:
    """See the module."""

    def test_40_the_killed_vanish(self, registries: Registries) -> None:
        """A killed publisher's instance vanishes within its lease and the declared bound; the others stay."""
        needs_processes(registries)
        publisher, (_, recorder) = registries.blocking(), registries.recorder()
        publisher.publish(ECHO, ["10.0.1.1:1", "10.0.1.2:1"])
        victim, bystander = registries.child("stay", MINE), registries.child("stay", "10.0.0.2:1")
        for child in (victim, bystander):
            child.expect("live", START)
        eventually(lambda: len(recorder.ids) == 4, STEP, "all four are seen")
        victim.kill()
        eventually(lambda: MINE not in recorder.ids, registries.dead_within + 1.0, "the killed one vanishes")
        others = {"10.0.1.1:1", "10.0.1.2:1", "10.0.0.2:1"}
        assert recorder.ids == others
        assert set(seen(publisher)) == others
        assert not any(recorder.went(name) for name in others)

    def test_41_the_last_one_killed(self, registries: Registries) -> None:
        """A killed sole publisher is served until the hold is over, then the view is empty: protection ends."""
        needs_processes(registries)
        child = registries.child("stay", MINE)
        child.expect("live", START)
        _held_then_empty(registries, child.kill, registries.dead_within)

    def test_41_the_last_one_vanishes(self, registries: Registries, faults: Faults | None) -> None:
        """A last instance that vanishes unmarked is served until the hold is over, then the view is empty."""
        broken = able(faults, "write_raw", "delete_behind")
        broken.write_raw(ECHO, MINE, b'{"v":1,"id":"10.0.0.1:1","host":"10.0.0.1","port":1,"started":1,"owner":"hand"}')
        _held_then_empty(registries, lambda: broken.delete_behind(ECHO, MINE), STEP)

    @pytest.mark.parametrize("mode", ("spin", "block"))
    def test_42_the_busy_stay(self, registries: Registries, mode: str) -> None:
        """A publisher that computes in pure Python, or blocks its event loop, for three leases stays registered."""
        consumer, recorder = registries.recorder()
        seconds = registries.lease * 3 + 0.5
        child = registries.child(mode, MINE, seconds=seconds)
        child.expect("live", START)
        verdict = child.expect("t", seconds + START)
        assert verdict == "kept"
        if registries.capabilities.shared:
            assert MINE in seen(consumer)
            eventually(lambda: MINE in recorder.ids, STEP, "it is seen here too")
            assert not recorder.went(MINE)

    def test_43_the_frozen_come_back(self, registries: Registries) -> None:
        """A publisher that was stopped for two leases is published again within a second of going on."""
        needs_processes(registries)
        needs_an_end_for_the_silent(registries)
        reader = registries.blocking()
        child = registries.child("stay", MINE)
        child.expect("live", START)
        _stop_for_two_leases(registries, child)
        child.cont()
        eventually(lambda: MINE in seen(reader), WAKE, "it is back")
        stays(lambda: MINE in seen(reader), registries.lease, "a lease")

    def test_44_the_thawed_do_not_rob(self, registries: Registries) -> None:
        """A stopped publisher whose replacement has its id is in conflict when it goes on, and takes nothing back."""
        needs_processes(registries)
        needs_an_end_for_the_silent(registries)
        replacement, (reader, recorder) = registries.blocking(), registries.recorder()
        child = registries.child("stay", MINE, who="old")
        child.expect("live", START)
        _stop_for_two_leases(registries, child)
        new = replacement.publish(ECHO, MINE, metadata={"who": "new"})
        eventually(lambda: recorder.replica and _who(recorder.replica) == "new", STEP, "the new one is seen")
        before = len(recorder.changes)
        child.cont()
        child.expect("state conflict", STEP + registries.lease)
        stays(lambda: seen(registries.blocking()) == {MINE: "new"}, 1.0, "an attempt or two of the old one")
        assert new.state == "live"
        assert {one.metadata["who"] for change in recorder.changes[before:] for one in change.instances} <= {"new"}
        new.unpublish()
        child.expect("state live", STEP + 5.0)
        eventually(lambda: seen(registries.blocking()) == {MINE: "old"}, STEP, "the old one is back")
        assert reader is not replacement

    def test_45_restarted_with_the_same_id(self, registries: Registries) -> None:
        """A provider that is killed and started again at once takes its id over and stays."""
        needs_processes(registries)
        needs_takeover(registries)
        reader = registries.blocking()
        first = registries.child("stay", MINE, who="first")
        first.expect("live", START)
        first.kill()
        second = registries.child("stay", MINE, who="second")
        second.expect("live", START)
        assert seen(reader) == {MINE: "second"}
        _, recorder = registries.recorder()
        stays(
            lambda: seen(reader) == {MINE: "second"},
            registries.lease * 2,
            "what was left of the first one has expired by then",
        )
        assert not recorder.went(MINE)

    def test_46_the_newer_holds_the_id(self, registries: Registries) -> None:
        """Of two publishers of one id the newer holds it; the older says so and comes back when the other leaves."""
        needs_takeover(registries)
        first, second, reader = (registries.blocking() for _ in range(3))
        conflicts: list[RegistrationConflict] = []
        first.events.on(RegistrationConflict, conflicts.append)
        older = first.publish(ECHO, MINE, metadata={"who": "older"})
        time.sleep(0.005)  # what was started in the same millisecond is not newer
        newer = second.publish(ECHO, MINE, metadata={"who": "newer"})
        assert seen(reader) == {MINE: "newer"}
        eventually(lambda: older.state == "conflict", registries.back_within, "the older one says so")
        eventually(lambda: conflicts, STEP, "it is an event")
        assert conflicts[0].instance_ids == (MINE,)
        assert older.last_error is not None
        stays(lambda: seen(reader) == {MINE: "newer"}, 1.0, "an attempt or two of the older one")
        assert newer.state == "live"
        second.close()
        eventually(lambda: seen(reader) == {MINE: "older"}, STEP, "the older one is back")
        eventually(lambda: older.state == "live", STEP, "and says so")
        assert len(conflicts) == 1, "one event for one conflict"

    def test_46_the_older_may_leave(self, registries: Registries) -> None:
        """A publisher in conflict can withdraw and close, and that takes nothing from the newer one."""
        needs_takeover(registries)
        first, second, reader = (registries.blocking() for _ in range(3))
        older = first.publish(ECHO, MINE, metadata={"who": "older"})
        other = first.publish(ECHO, "10.0.0.2:1")
        time.sleep(0.005)  # what was started in the same millisecond is not newer
        lost: list[RegistrationLost] = []
        second.events.on(RegistrationLost, lost.append)
        second.publish(ECHO, MINE, metadata={"who": "newer"})
        eventually(lambda: older.state == "conflict", registries.back_within, "the older one says so")
        assert other.state == "live", "what else it publishes is unharmed"
        older.unpublish()
        assert seen(reader) == {MINE: "newer", "10.0.0.2:1": ""}
        first.close()
        stays(lambda: seen(reader) == {MINE: "newer"}, 1.0, "what the older one had under way is over")
        assert not lost, "not for a moment either: the newer one would bring it back"

    def test_47_deleted_behind_its_back(self, registries: Registries, faults: Faults | None) -> None:
        """A record that somebody else deletes is back within the declared bound, and its loss is an event."""
        broken = able(faults, "delete_behind")
        publisher, (_, recorder) = Client(registries.blocking(), None), registries.recorder()
        reader, lost = registries.blocking(), publisher.heard(RegistrationLost)
        published = publisher.heard(Published)
        one = publisher.publish(ECHO, MINE)
        more = publisher.publish("more", ["10.0.0.2:1", "10.0.0.3:1"])
        eventually(lambda: recorder.ids, STEP, "it is seen")
        recorder.mark()
        broken.delete_behind(ECHO, MINE)
        eventually(lambda: set(seen(reader)) == {MINE}, registries.back_within, "it is back")
        eventually(lambda: [event.service for event in lost] == [ECHO], STEP, "the loss is an event")
        eventually(lambda: len(published) == 3, STEP, "so is the return")
        assert lost[0].instance_ids == (MINE,)
        assert {one.state, more.state} == {"live"}
        assert recorder.smallest == 1, "nobody saw an empty list"
        one.unpublish()
        assert not seen(reader)

    def test_47_deleted_altogether(self, registries: Registries, faults: Faults | None) -> None:
        """Where somebody deletes all records of many services, all are back within the declared bound."""
        broken = able(faults, "delete_behind")
        publisher, reader = registries.blocking(), registries.blocking()
        names = [ECHO, *(type(ECHO)(f"more {number}") for number in range(5))]
        for name in names:
            publisher.publish(name, [f"10.0.0.{number}:1" for number in range(5)])
        for name in names:
            for number in range(5):
                broken.delete_behind(name, f"10.0.0.{number}:1")
        eventually(lambda: all(len(seen(reader, name)) == 5 for name in names), registries.back_within, "all are back")

    def test_48_the_lease_is_over(self, registries: Registries, faults: Faults | None) -> None:
        """A live publisher whose lease or session ends is published again, by the same owner, and stays."""
        broken = able(faults, "expire")
        publisher, (_, recorder) = registries.blocking(), registries.recorder()
        reader = registries.blocking()
        registration = publisher.publish(ECHO, [MINE, "10.0.0.2:1"])
        eventually(lambda: len(recorder.ids) == 2, STEP, "both are seen")
        recorder.mark()
        for _ in range(2):
            broken.expire(publisher)
            eventually(lambda: len(seen(reader)) == 2, registries.lease + registries.back_within, "both are back")
        eventually(lambda: registration.state == "live", STEP, "it says so")
        stays(lambda: len(seen(reader)) == 2, registries.lease * 1.5, "longer than the new lease")
        assert recorder.smallest >= 1, "nobody saw an empty list"
        assert {one.owner for one in reader.lookup(ECHO)} == {one.owner for one in registration.instances}


def _stop_for_two_leases(registries: Registries, child: PythonProcess) -> None:
    stopped = time.monotonic()
    child.stop()
    eventually(lambda: not seen(registries.blocking()), registries.silent_within, "its record vanishes")
    time.sleep(max(0.0, stopped + registries.lease * 2 - time.monotonic()))


def _held_then_empty(registries: Registries, vanish: Callable[[], None], within: float) -> None:
    """Let the only instance vanish: the view is empty in the end, and not before the hold is over."""
    consumer, recorder = registries.recorder(protection_hold=SHORT_HOLD)
    reader = registries.blocking()
    events: list[object] = []
    for kind in (ProtectionStarted, ProtectionEnded):
        consumer.events.on(kind, events.append)
    eventually(lambda: recorder.ids == {MINE}, STEP, "it is seen")
    vanish()
    eventually(lambda: not seen(reader), within, "its record vanishes")
    vanished = time.monotonic()
    eventually(lambda: not recorder.ids, SHORT_HOLD + STEP, "the view is empty in the end")
    noticed = 0.3 + registries.capabilities.visible_within
    assert recorder.times[-1] >= vanished + SHORT_HOLD - noticed, "it was held"
    eventually(lambda: len(events) >= 2, STEP, "the hold is told of")
    assert events[0] == ProtectionStarted(ECHO, (MINE,))
    assert events[-1] == ProtectionEnded(ECHO, confirmed=True)
    assert not consumer.lookup(ECHO).protected


def _who(replica: dict[str, Instance]) -> str | None:
    return replica[MINE].metadata.get("who") if MINE in replica else None
