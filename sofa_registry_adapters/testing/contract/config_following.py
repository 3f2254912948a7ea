"""Promises about listeners and watches of configuration, in both faces: the last value, in order, and no false removal."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.model.config import ConfigChange
from sofa_registry_adapters.model.events import ConfigChanged, ConfigLooped, ConfigRejected, ListenerFailed
from sofa_registry_adapters.testing.contract.breaking import Faults
from sofa_registry_adapters.testing.contract.centers import KEY, Centers, ConfigRecorder
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.contract.kit import STEP, able, stays
from sofa_registry_adapters.testing.faults import eventually

BURST = 100


class FollowingContract:
    """See the module."""

    def test_50_the_first_call(self, centers: Centers, face: FaceName) -> None:
        """A listener is called with the present value, or None, in the caller's thread, before the verb returns."""
        center, recorder, empty = centers.open(face), ConfigRecorder(), ConfigRecorder()
        center.publish(KEY, "one")
        center.add_listener(KEY, recorder)
        assert recorder.changes == [ConfigChange(recorder.changes[0].key, center.get())]
        assert str(recorder.changes[0].key) == f"DEFAULT_GROUP/{KEY}"
        center.add_listener("absent", empty)
        assert (empty.contents, empty.changes[0].previous) == ([None], None)
        assert recorder.threads == empty.threads == [center.caller]

    def test_51_each_change(self, centers: Centers, face: FaceName) -> None:
        """Then with each change, and what was before it; a removal is one, and so is the value after it."""
        publisher, consumer, recorder = centers.open(face), centers.open(face), ConfigRecorder()
        events = consumer.heard(ConfigChanged)
        consumer.add_listener(KEY, recorder)
        for content in ("one", "two", None, "three"):
            if content is None:
                publisher.remove()
            else:
                publisher.publish(KEY, content)
            eventually(lambda: recorder.contents[-1] == content, STEP, "the change is told")  # noqa: B023  called at once
        assert recorder.contents == [None, "one", "two", None, "three"]
        assert recorder.consistent
        assert recorder.item == publisher.get()
        eventually(lambda: len(events) == 5, STEP, "each is an event")
        assert [event.change.item for event in events] == [change.item for change in recorder.changes]

    def test_52_a_burst(self, centers: Centers, face: FaceName) -> None:
        """After any burst a listener has the last value; it never sees an older one after a newer one."""
        publisher, consumer = centers.open(face), centers.open(face)
        publisher.publish(KEY, "0")
        recorders = [consumer.recorder(), centers.open(face).recorder(), publisher.recorder()]
        for number in range(1, BURST + 1):
            publisher.publish(KEY, str(number))
        for recorder in recorders:
            eventually(lambda: recorder.content == str(BURST), STEP, "the last value")  # noqa: B023  called at once
            numbers = [int(str(content)) for content in recorder.contents]
            assert numbers == sorted(set(numbers)), "in order, each once"
            assert recorder.consistent
        publisher.remove()
        for recorder in recorders:
            eventually(lambda: recorder.content is None, STEP, "the removal")  # noqa: B023  called at once

    def test_53_a_watch(self, centers: Centers, face: FaceName) -> None:
        """A watch gives the present value first, then each change; it ends when it is closed elsewhere."""
        publisher, consumer = centers.open(face), centers.open(face)
        publisher.publish(KEY, "one")
        watch = consumer.watch()
        following = watch.follow()
        eventually(lambda: following.changes, STEP, "the first change comes")
        assert following.changes[0].item == publisher.get()
        publisher.publish(KEY, "two")
        eventually(lambda: len(following.changes) == 2, STEP, "the next one comes")
        assert following.changes[1].previous == following.changes[0].item
        assert not following.ended.is_set()
        watch.close()
        assert following.ended.wait(STEP), "close ends the loop"
        watch.close()

    def test_53_a_watch_ends_with_the_center(self, centers: Centers, face: FaceName) -> None:
        """Closing the center ends every loop over a watch of it."""
        consumer = centers.open(face)
        followings = [consumer.watch(name).follow() for name in ("a", "a", "b")]
        eventually(lambda: all(one.changes for one in followings), STEP, "all have their first change")
        consumer.close()
        for one in followings:
            assert one.ended.wait(STEP), "the end of the center ends the loop"

    def test_54_a_closed_place_is_silent(self, centers: Centers, face: FaceName) -> None:
        """After close the listener is called no more, others of the same key are; it may be added anew."""
        publisher, consumer, silent, again = centers.open(face), centers.open(face), ConfigRecorder(), ConfigRecorder()
        place = consumer.add_listener(KEY, silent)
        other = consumer.recorder()
        place.close()
        place.close()
        assert place.closed
        publisher.publish(KEY, "one")
        eventually(lambda: other.content == "one", STEP, "the other one is told")
        assert silent.contents == [None]
        consumer.add_listener(KEY, again)
        assert again.contents == ["one"]

    def test_54_the_same_key_again(self, centers: Centers, face: FaceName) -> None:
        """A key whose last listener left can be listened to again, and begins with what it is then."""
        publisher, consumer = centers.open(face), centers.open(face)
        for number in range(5):
            publisher.publish(KEY, str(number))
            recorder = ConfigRecorder()
            with consumer.add_listener(KEY, recorder):
                eventually(lambda: recorder.content == str(number), STEP, "what was missed")  # noqa: B023  called at once

    def test_55_many_keys(self, centers: Centers, face: FaceName) -> None:
        """Each listener is told of its own key, whatever happens to its neighbours."""
        publisher, consumer = centers.open(face), centers.open(face)
        recorders = {f"key {number}": consumer.recorder(f"key {number}") for number in range(20)}
        for key in recorders:
            publisher.publish(key, key)
        for key, recorder in recorders.items():
            eventually(lambda: recorder.content == key, STEP, "its own")  # noqa: B023  called at once
            assert recorder.contents == [None, key]

    def test_56_a_value_that_cannot_be_decoded(self, centers: Centers, face: FaceName, faults: Faults | None) -> None:
        """What somebody else spoiled costs nobody the last good value; an event says why; the next good one is told."""
        broken = able(faults, "write_raw_config")
        publisher, consumer, recorder = centers.open(face), centers.open(face), ConfigRecorder()
        publisher.publish(KEY, "good")
        rejected = consumer.heard(ConfigRejected)
        consumer.add_listener(KEY, recorder)
        for bad in (b"", b"{", b"by hand", b'{"v":1}\n', b'{"v":1,"serial":2,"id":"?"}\nx'):
            broken.write_raw_config(KEY, bad)
        eventually(lambda: rejected, STEP, "it is an event")
        assert str(rejected[0].key) == f"DEFAULT_GROUP/{KEY}"
        stays(lambda: recorder.contents == ["good"], 0.3, "nothing is told of it")
        publisher.publish(KEY, "better")
        eventually(lambda: recorder.contents == ["good", "better"], STEP, "the next good one")
        assert publisher.content() == "better"

    def test_57_a_value_that_is_lost(self, centers: Centers, face: FaceName, faults: Faults | None) -> None:
        """A value that vanishes without having been removed is kept, and an event says so; a removal is still one."""
        broken = able(faults, "lose_config")
        publisher, consumer, recorder = centers.open(face), centers.open(face), ConfigRecorder()
        publisher.publish(KEY, "good")
        rejected = consumer.heard(ConfigRejected)
        consumer.add_listener(KEY, recorder)
        broken.lose_config(KEY)
        eventually(lambda: rejected, STEP, "it is an event")
        stays(lambda: recorder.contents == ["good"], 0.3, "nobody removed it")
        publisher.publish(KEY, "again")
        eventually(lambda: recorder.content == "again", STEP, "the next value")
        assert publisher.history()[0].content == "again"
        publisher.remove()
        eventually(lambda: recorder.content is None, STEP, "a removal")
        assert recorder.consistent


class ConfigListenerContract:
    """Promises about listeners that misbehave, in both faces."""

    def test_60_one_that_fails(self, centers: Centers, face: FaceName) -> None:
        """A listener that raises is called again, is told of on the bus, and harms no other."""
        publisher, consumer, recorder, calls = centers.open(face), centers.open(face), ConfigRecorder(), []
        failures = consumer.heard(ListenerFailed)

        def failing(change: object) -> None:
            calls.append(change)
            raise ValueError("on purpose")

        consumer.add_listener(KEY, failing)
        consumer.add_listener(KEY, recorder)
        for number in range(2):
            publisher.publish(KEY, str(number))
            eventually(lambda: recorder.content == str(number) and len(calls) == number + 2, STEP, "both are told")  # noqa: B023  called at once
        eventually(lambda: len(failures) == 3, STEP, "each failure is an event")
        assert "on purpose" in failures[0].reason
        assert "failing" in failures[0].listener

    def test_61_one_that_is_slow(self, centers: Centers, face: FaceName) -> None:
        """A slow listener gets the last value in one step; others, of the same key too, are prompt."""
        publisher, consumer = centers.open(face), centers.open(face)
        gate, slow, prompt, other = threading.Event(), ConfigRecorder(), ConfigRecorder(), ConfigRecorder()
        gate.set()
        consumer.add_listener(KEY, consumer.slow(gate, slow))
        gate.clear()
        consumer.add_listener(KEY, prompt)
        consumer.add_listener("other", other)
        try:
            for number in range(5):
                publisher.publish(KEY, str(number))
            publisher.publish("other", "x")
            began = time.monotonic()
            eventually(lambda: prompt.content == "4" and other.content == "x", STEP, "the others are told")
            assert time.monotonic() - began < STEP / 2
            assert slow.content is None
        finally:
            gate.set()
        eventually(lambda: slow.content == "4", STEP, "the slow one has the last value")
        assert len(slow.changes) <= 3, "what it missed was folded"
        assert slow.consistent

    def test_62_one_that_calls_back(self, centers: Centers, face: FaceName) -> None:
        """A listener may call any verb of its own center."""
        publisher, consumer = centers.open(face), centers.open(face)
        config, inner, answers = consumer.center, ConfigRecorder(), list[object]()
        listener = consumer.calling(
            answers,
            lambda: config.get(KEY),
            lambda: config.publish("from inside", "x"),
            lambda: config.remove("from inside"),
            lambda: config.history(KEY),
            lambda: config.add_listener("inner", inner),
            lambda: config.add_listener(KEY, inner),
        )
        consumer.add_listener(KEY, listener)
        assert len(answers) == 6, "in the first call"
        publisher.publish(KEY, "x")
        eventually(lambda: len(answers) >= 12, STEP, "in a later one")

    def test_63_one_that_leaves(self, centers: Centers, face: FaceName) -> None:
        """A listener may end its own place from inside: it is the last call it gets."""
        publisher, consumer, recorder, calls = centers.open(face), centers.open(face), ConfigRecorder(), []
        places: list[Any] = []

        def leaving(change: object) -> None:
            calls.append(change)
            for place in places:
                place.close()

        places.append(consumer.add_listener(KEY, leaving))
        consumer.add_listener(KEY, recorder)
        for number in range(4):
            publisher.publish(KEY, str(number))
            eventually(lambda: recorder.content == str(number), STEP, "the other one is told")  # noqa: B023  called at once
        assert len(calls) == 2

    def test_64_one_that_closes_the_center(self, centers: Centers, face: FaceName) -> None:
        """A listener may close its own center."""
        publisher, consumer, answers = centers.open(face), centers.open(face), list[object]()
        config = consumer.center
        closing = consumer.calling(answers, config.aclose if hasattr(config, "aclose") else config.close)
        consumer.add_listener(KEY, _second(closing))
        publisher.publish(KEY, "x")
        eventually(lambda: answers, STEP, "close returned inside the listener")

    def test_65_one_that_calls_itself(self, centers: Centers, face: FaceName) -> None:
        """A listener that publishes the key that it listens to is warned of; publishing another key is nothing special."""
        consumer, answers, harmless = centers.open(face), list[object](), list[object]()
        warned = consumer.heard(ConfigLooped)
        config, numbers = consumer.center, iter(range(8))
        consumer.add_listener("asked", consumer.calling(harmless, lambda: config.publish("answered", "x")))
        for number in range(8):
            consumer.publish("asked", str(number))
            eventually(lambda: len(harmless) == number + 2, STEP, "it answers")  # noqa: B023  called at once
        assert not warned

        def again() -> object:
            number = next(numbers, None)
            return None if number is None else config.publish(KEY, str(number))

        consumer.add_listener(KEY, consumer.calling(answers, again))
        eventually(lambda: warned, STEP, "it is warned of")
        assert (str(warned[0].key), warned[0].publications) == (f"DEFAULT_GROUP/{KEY}", 5)
        eventually(lambda: None in answers, STEP, "nothing was held up")
        assert len(warned) == 1, "once an incident"

    def test_66_what_cannot_be_called(self, centers: Centers, face: FaceName) -> None:
        """A listener that is not callable, or is a coroutine where nobody awaits it, is refused."""
        center = centers.open(face)
        listeners: tuple[Any, ...] = (None, 7, "print", [])
        for listener in listeners:
            with pytest.raises(InvalidArgument):
                center.add_listener(KEY, listener)
        if not center.asynchronous:

            async def coroutine(_: object) -> None:
                pass

            with pytest.raises(InvalidArgument):
                center.add_listener(KEY, coroutine)


def _second(listener: Any) -> Any:
    """The listener, called from the second change on."""
    calls: list[object] = []

    def skipping(change: object) -> object:
        calls.append(change)
        return listener(change) if len(calls) > 1 else None

    return skipping
