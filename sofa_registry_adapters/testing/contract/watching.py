"""Promises about watching, in both faces: what a consumer is told, when, where, and in which order."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.model.events import ListenerFailed
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.testing.contract.breaking import Faults
from sofa_registry_adapters.testing.contract.clients import Client, FaceName, Listener, Published, Recorder
from sofa_registry_adapters.testing.contract.kit import ECHO, STEP, Registries, able, stays
from sofa_registry_adapters.testing.faults import eventually

SEEDS = (1, 2)
OPERATIONS = 60


class WatchingContract:
    """See the module."""

    def test_20_first_notice(self, registries: Registries, face: FaceName) -> None:
        """The first notice comes in the caller's own thread, before subscribe returns, even of an empty view."""
        publisher, consumer = registries.open(face), registries.open(face)
        empty, full = Recorder(), Recorder()
        consumer.subscribe("nobody", empty)
        assert [len(change.instances) for change in empty.changes] == [0]
        publisher.publish(ECHO, ["10.0.0.1:1", "10.0.0.2:1"])
        consumer.subscribe(ECHO, full)
        assert len(full.changes) == 1
        assert set(full.changes[0].added) == set(full.changes[0].instances)
        assert full.ids == {"10.0.0.1:1", "10.0.0.2:1"}
        assert not full.stale
        assert {*empty.threads, *full.threads} == {consumer.caller}

    def test_20_later_notices(self, registries: Registries, face: FaceName) -> None:
        """Later notices come one at a time, on a thread of the library's, or on the subscriber's event loop."""
        publisher, consumer, recorder = registries.open(face), registries.open(face), Recorder()
        consumer.subscribe(ECHO, recorder)
        published = publisher.publish(ECHO, "10.0.0.1:1", weight=1)
        for weight in range(2, 30):
            published.update(weight=weight)
        eventually(lambda: {one.weight for one in recorder.replica.values()} == {29}, STEP, "the last change comes")
        later = set(recorder.threads[1:])
        if consumer.asynchronous:
            assert later == {consumer.caller}
        else:
            assert later
            assert threading.current_thread() not in later
        assert not recorder.overlaps

    def test_21_changes_are_exact(self, registries: Registries, face: FaceName) -> None:
        """A change names exactly what was added, removed and updated, with the new values."""
        publisher, consumer = registries.open(face), registries.open(face)
        watch = consumer.watch(ECHO)
        first = watch.next()
        assert first is not None
        assert (first.added, first.removed, first.updated) == ((), (), ())
        one = publisher.publish(ECHO, "10.0.0.1:1", weight=1)
        change = watch.until(len)
        assert (change.added, change.removed, change.updated) == (one.instances, (), ())
        two = publisher.publish(ECHO, "10.0.0.2:1")
        change = watch.until(lambda view: len(view) == 2)
        assert (change.added, change.removed, change.updated) == (two.instances, (), ())
        one.update(weight=2)
        change = watch.until(lambda view: any(one.weight == 2 for one in view))
        assert (change.added, change.removed, change.updated) == ((), (), one.instances)
        two.unpublish()
        change = watch.until(lambda view: len(view) == 1)
        assert ([gone.instance_id for gone in change.removed], change.added, change.updated) == (
            ["10.0.0.2:1"],
            (),
            (),
        )
        assert change.service == ECHO
        assert not change.stale

    @pytest.mark.parametrize("seed", SEEDS)
    def test_22_replica(self, registries: Registries, face: FaceName, seed: int) -> None:
        """A replica built from the changes alone equals lookup at the end, whatever two publishers did."""
        draw = random.Random(seed)  # noqa: S311  a seeded test
        publishers = [registries.open(face) for _ in range(2)]
        consumer, reader, recorder = registries.open(face), registries.open(face), Recorder()
        consumer.subscribe(ECHO, recorder)
        standing: dict[str, Published] = {}
        for _ in range(OPERATIONS):
            _operate(draw, publishers, standing)
        publishers[0].publish(ECHO, "10.0.9.9:9")
        expected = {**{name: one.instances[0] for name, one in standing.items()}}
        eventually(lambda: set(recorder.ids) == {*expected, "10.0.9.9:9"}, STEP, f"seed {seed}: it converges")
        truth = {one.instance_id: one for one in reader.lookup(ECHO)}
        eventually(lambda: recorder.replica == truth, STEP, f"seed {seed}: the replica equals lookup")
        assert {name: truth[name] for name in expected} == expected
        assert set(recorder.changes[-1].instances) == set(truth.values()), "the view equals the replica"
        assert not recorder.overlaps

    def test_23_views_do_not_change(self, registries: Registries, face: FaceName) -> None:
        """A view that was given out stays as it was, whatever happens later, and revisions never go back."""
        publisher, consumer = registries.open(face), registries.open(face)
        watch = consumer.watch(ECHO)
        views = [watch.until(lambda _: True).instances]
        for number in range(1, 6):
            publisher.publish(ECHO, f"10.0.0.{number}:1")
            views.append(watch.until(lambda view: len(view) == number).instances)  # noqa: B023  called at once
        assert [len(view) for view in views] == [0, 1, 2, 3, 4, 5]
        revisions = [view.revision for view in views]
        assert len({revision.epoch for revision in revisions}) == 1
        counters = [revision.counter for revision in revisions]
        assert counters == sorted(counters)

    def test_24_a_watch_ends_with_close(self, registries: Registries, face: FaceName) -> None:
        """A loop over a watch gives the current instances first, and ends when it is closed elsewhere."""
        publisher, consumer = registries.open(face), registries.open(face)
        publisher.publish(ECHO, "10.0.0.1:1")
        watch = consumer.watch(ECHO)
        following = watch.follow()
        eventually(lambda: following.changes, STEP, "the first change comes")
        assert [one.instance_id for one in following.changes[0].instances] == ["10.0.0.1:1"]
        publisher.publish(ECHO, "10.0.0.2:1")
        eventually(lambda: len(following.changes[-1].instances) == 2, STEP, "the next change comes")
        assert not following.ended.is_set()
        watch.close()
        assert following.ended.wait(STEP), "close ends the loop"
        watch.close()

    def test_24_a_watch_ends_with_the_registry(self, registries: Registries, face: FaceName) -> None:
        """Closing the Registry ends every loop over a watch of it."""
        consumer = registries.open(face)
        followings = [consumer.watch(name).follow() for name in ("a", "a", "b")]
        eventually(lambda: all(one.changes for one in followings), STEP, "all have their first change")
        consumer.close()
        for one in followings:
            assert one.ended.wait(STEP), "the end of the Registry ends the loop"

    def test_25_a_closed_subscription_is_silent(self, registries: Registries, face: FaceName) -> None:
        """After close the listener is called no more, and others of the same service still are."""
        publisher, consumer, silent, other = registries.open(face), registries.open(face), Recorder(), Recorder()
        subscription = consumer.subscribe(ECHO, silent)
        consumer.subscribe(ECHO, other)
        subscription.close()
        subscription.close()
        assert subscription.closed
        publisher.publish(ECHO, "10.0.0.1:1")
        eventually(lambda: other.ids, STEP, "the other listener is told")
        assert len(silent.changes) == 1

    def test_25_the_same_service_again(self, registries: Registries, face: FaceName) -> None:
        """A service whose last subscription ended can be subscribed to again, and the view is a fresh one."""
        publisher, consumer = registries.open(face), registries.open(face)
        published = publisher.publish(ECHO, "10.0.0.1:1", weight=0)
        for weight in range(1, 6):
            recorder = Recorder()
            subscription = consumer.subscribe(ECHO, recorder)
            eventually(lambda: recorder.replica["10.0.0.1:1"].weight == weight - 1, STEP, "what was missed")  # noqa: B023  called at once
            subscription.close()
            published.update(weight=weight)

    def test_26_one_bad_record(self, registries: Registries, face: FaceName, faults: Faults | None) -> None:
        """A record that cannot be decoded costs that record only, and one that was good keeps its last value."""
        broken = able(faults, "write_raw")
        publisher, consumer, recorder = registries.open(face), registries.open(face), Recorder()
        publisher.publish(ECHO, ["10.0.0.1:1", "10.0.0.2:1"])
        consumer.subscribe(ECHO, recorder)
        good = b'{"v":1,"id":"by hand","host":"10.0.0.3","port":3,"weight":%d,"started":1,"owner":"hand"}'
        broken.write_raw(ECHO, "by hand", good % 5)
        eventually(lambda: "by hand" in recorder.ids, STEP, "a record written by hand is seen")
        for number, bad in enumerate((b"", b"{", b"\xff\xfe\x00", b'{"v":1}', b'{"v":1,"id":3}', b"[" * 100_000)):
            broken.write_raw(ECHO, "by hand", bad)
            broken.write_raw(ECHO, f"bad {number}", bad)
            publisher.publish(ECHO, f"10.0.1.{number}:1")
            eventually(lambda: f"10.0.1.{number}:1" in recorder.ids, STEP, "the list lives on")  # noqa: B023  called at once
            assert {"10.0.0.1:1", "10.0.0.2:1", "by hand"} <= recorder.ids
            assert recorder.replica["by hand"].weight == 5, "the last good value"
        assert not recorder.went("by hand")
        late = registries.open(face)
        assert {"10.0.0.1:1", "10.0.0.2:1"} <= late.ids(ECHO)
        assert not any(name.startswith("bad") for name in late.ids(ECHO))
        broken.write_raw(ECHO, "by hand", good % 6)
        eventually(lambda: recorder.replica["by hand"].weight == 6, STEP, "it is good again")

    def test_27_what_cannot_be_called(self, registries: Registries, face: FaceName) -> None:
        """A listener that is not callable is refused with a typed error."""
        client = registries.open(face)
        listeners: tuple[Any, ...] = (None, 7, "print", [])
        for listener in listeners:
            with pytest.raises(InvalidArgument):
                client.subscribe(ECHO, listener)
        if not client.asynchronous:

            async def coroutine(_: object) -> None:
                pass

            with pytest.raises(InvalidArgument):
                client.subscribe(ECHO, coroutine)


class ListenerContract:
    """Promises about listeners that misbehave, in both faces."""

    def test_30_a_listener_that_fails(self, registries: Registries, face: FaceName) -> None:
        """A listener that raises is called again, is told of on the bus, and harms no other."""
        publisher, consumer, recorder, calls = registries.open(face), registries.open(face), Recorder(), []
        failures = consumer.heard(ListenerFailed)

        def failing(change: object) -> None:
            calls.append(change)
            raise ValueError("on purpose")

        consumer.subscribe(ECHO, failing)
        consumer.subscribe(ECHO, recorder)
        publisher.publish(ECHO, "10.0.0.1:1")
        eventually(lambda: recorder.ids and len(calls) == 2, STEP, "both are told")
        publisher.publish(ECHO, "10.0.0.2:1")
        eventually(lambda: len(recorder.ids) == 2 and len(calls) == 3, STEP, "both are told again")
        eventually(lambda: len(failures) == 3, STEP, "each failure is an event")
        assert "on purpose" in failures[0].reason

    def test_31_a_listener_that_is_slow(self, registries: Registries, face: FaceName) -> None:
        """A slow listener gets the latest state in one step; others, of the same service too, are prompt."""
        publisher, consumer = registries.open(face), registries.open(face)
        gate, slow, prompt, other = threading.Event(), Recorder(), Recorder(), Recorder()
        gate.set()
        consumer.subscribe(ECHO, consumer.slow(gate, slow))
        gate.clear()
        consumer.subscribe(ECHO, prompt)
        consumer.subscribe("other", other)
        try:
            for number in range(5):
                publisher.publish(ECHO, f"10.0.0.{number}:1")
            publisher.publish("other", "10.0.0.1:1")
            began = time.monotonic()
            eventually(lambda: len(prompt.ids) == 5 and other.ids, STEP, "the others are told")
            assert consumer.ids(ECHO) == prompt.ids
            assert time.monotonic() - began < registries.told_within
            assert not slow.ids
        finally:
            gate.set()
        eventually(lambda: len(slow.ids) == 5, STEP, "the slow one has the latest state")
        assert len(slow.changes) <= 3, "what it missed was folded"
        assert slow.replica == prompt.replica

    def test_32_a_listener_that_calls_back(self, registries: Registries, face: FaceName) -> None:
        """A listener may call any verb of its own Registry: lookup, publish, subscribe, services."""
        publisher, consumer = registries.open(face), registries.open(face)
        registry, inner = consumer.registry, Recorder()
        answers: list[object] = []
        surprised: list[object] = []
        numbers = iter(range(100))
        listener = consumer.calling(
            answers,
            lambda: registry.lookup(ECHO),
            lambda: registry.lookup("unwatched"),
            lambda: registry.publish("from inside", f"10.0.0.{next(numbers)}:1"),
            lambda: registry.subscribe("inner", inner),
            lambda: registry.subscribe(ECHO, surprised.append),
        )
        consumer.subscribe(ECHO, listener)
        assert len(answers) == 5, "in the first notice"
        publisher.publish(ECHO, "10.0.0.1:1")
        eventually(lambda: len(answers) >= 10, STEP, "in a later notice")
        assert len(publisher.lookup("from inside")) >= 2

    def test_33_a_listener_that_leaves(self, registries: Registries, face: FaceName) -> None:
        """A listener may end its own subscription from inside: it is the last call it gets."""
        publisher, consumer, recorder, calls = registries.open(face), registries.open(face), Recorder(), []
        handles: list[object] = []

        def leaving(change: object) -> None:
            calls.append(change)
            for handle in handles:
                handle.close()  # type: ignore[attr-defined]

        handles.append(consumer.subscribe(ECHO, leaving))
        consumer.subscribe(ECHO, recorder)
        for number in range(4):
            publisher.publish(ECHO, f"10.0.0.{number}:1")
            eventually(lambda: len(recorder.ids) == number + 1, STEP, "the other one is told")  # noqa: B023  called at once
        assert len(calls) == 2

    def test_34_a_listener_that_closes_the_registry(self, registries: Registries, face: FaceName) -> None:
        """A listener may close its own Registry: it ends in two seconds, and withdraws what it published."""
        publisher, consumer = registries.open(face), registries.open(face)
        consumer.publish("own", "10.0.0.9:1")
        answers: list[object] = []
        registry = consumer.registry
        closing = consumer.calling(answers, registry.aclose if hasattr(registry, "aclose") else registry.close)
        gate = threading.Event()

        def first(_: object) -> None:
            gate.set()

        consumer.subscribe("first", first)
        assert gate.is_set()
        consumer.subscribe(ECHO, _second(closing))
        publisher.publish(ECHO, "10.0.0.1:1")
        eventually(lambda: answers, STEP, "close returned inside the listener")
        eventually(lambda: not publisher.lookup("own"), STEP, "it withdrew")
        stays(lambda: not publisher.lookup("own"), 0.3, "nothing renews what was withdrawn")


def _second(listener: Listener) -> Listener:
    """The listener, called from the second notice on."""
    calls: list[InstancesChange] = []

    def skipping(change: InstancesChange) -> object:
        calls.append(change)
        return listener(change) if len(calls) > 1 else None

    return skipping


def _operate(draw: random.Random, publishers: list[Client], standing: dict[str, Published]) -> None:
    """One random operation: publish, update or withdraw."""
    choice = draw.random()
    if choice < 0.45 or not standing:
        number = draw.randrange(12)
        name = f"10.0.0.{number}:1"
        if name not in standing:
            publisher = publishers[number % 2]
            fields = Instance(host=f"10.0.0.{number}", port=1, weight=draw.randrange(1000))
            standing[name] = publisher.publish(ECHO, fields)
        return
    name = draw.choice(sorted(standing))
    if choice < 0.75:
        standing[name].update(weight=draw.randrange(1000))
    else:
        standing.pop(name).unpublish()
