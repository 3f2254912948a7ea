"""Promises about configuration values, in both faces: what is published is what is read, and a condition is exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from sofa_registry_adapters.errors import Conflict, InvalidArgument, RegistryError, ValueTooLarge
from sofa_registry_adapters.model.config import ABSENT, ConfigKey
from sofa_registry_adapters.testing.contract.centers import KEY, Center, Centers, increment
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.contract.kit import STEP
from sofa_registry_adapters.testing.faults import eventually

TEXTS = {
    "plain": "size: 10",
    "empty": "",
    "lines": "a: 1\r\nb: 2\n\n\ttab\n",
    "unicode": "größe: 日本 🦜 \u202e \u2028",
    "json": '{"v":1,"id":"x"}\n{"v":2}',
    "controls": "a\x00b\x1f\x7f",
    "long": "x" * 100_000,
}
BYTES = {
    "empty": b"",
    "all": bytes(range(256)),
    "no utf-8": b"\xff\xfe\x00\x80",
    "text": b"size: 10",
    "lines": b"\n\r\n{",
}
NAMES = (
    "pool.yaml",
    "a/b",
    "..",
    "a b",
    "%2F",
    "日本",
    "x" * 255,
    "a:b@c$d#e?f&g=h",
    "*",
    "{x}[y]",
    "A@@B",
    "~0",
    "value",
)
BAD_NAMES: tuple[Any, ...] = ("", "a\nb", "a\x00", "x" * 256, None, 7, b"a", "\ud800")
WRITERS = 6


class ValueContract:
    """``increments``: how often each of two writers counts up."""

    increments: ClassVar[int] = 100

    @pytest.mark.parametrize("name", tuple(TEXTS))
    def test_10_text(self, centers: Centers, face: FaceName, name: str) -> None:
        """Text is read as it was published, with its type, its time and its author; blank text is refused where declared."""
        one, other, before = centers.open(face), centers.open(face), time.time()
        if not TEXTS[name].strip() and not centers.capabilities.blank_config:
            with pytest.raises(InvalidArgument):
                one.publish(KEY, TEXTS[name])
            assert one.get() is None
            return
        revision = one.publish(KEY, TEXTS[name], content_type="text")
        item = one.get()
        assert item is not None
        assert (item.key, item.group, item.content, item.revision) == (KEY, "DEFAULT_GROUP", TEXTS[name], revision)
        assert (item.content_type, item.stale) == ("text", False)
        assert before - 60 < item.updated_at < time.time() + 60, "the product's clock is not this machine's"
        assert item.text == TEXTS[name]
        eventually(lambda: other.get() == item, STEP, "another one reads the same")

    @pytest.mark.parametrize("name", tuple(BYTES))
    def test_11_bytes(self, centers: Centers, face: FaceName, name: str) -> None:
        """Bytes are read as bytes; where a value is text only they are refused before anything is written."""
        center = centers.open(face)
        if not centers.capabilities.binary_config:
            with pytest.raises(InvalidArgument):
                center.publish(KEY, BYTES[name])
            assert center.get() is None
            return
        center.publish(KEY, BYTES[name])
        assert center.content() == BYTES[name]

    def test_12_names(self, centers: Centers, face: FaceName) -> None:
        """Any text is a key or a group, and no two of them are mixed up."""
        center = centers.open(face)
        for name in NAMES:
            center.publish(name, f"key {name}")
            center.publish("same", f"group {name}", group=name)
        center.publish(NAMES[0][:-1], "a neighbour")
        for name in NAMES:
            assert center.content(name) == f"key {name}"
            assert center.content("same", group=name) == f"group {name}"
        assert center.get("POOL.YAML") is None
        assert center.get("pool.ya") is None
        assert center.content("pool.yam") == "a neighbour"
        where = ConfigKey("same", NAMES[1])
        item = center.do(lambda: center.center.get(where))
        assert item.content == f"group {NAMES[1]}", "a ConfigKey names both"

    def test_13_the_largest(self, centers: Centers, face: FaceName) -> None:
        """A value of the declared size is kept and told; a larger one is refused, and nothing else suffers."""
        center, largest = centers.open(face), centers.largest
        content = "é" + "x" * (largest - 2)
        recorder = center.recorder()
        center.publish(KEY, content, content_type="text/x-the-longest-type-that-is-allowed")
        eventually(lambda: recorder.content == content, STEP * 2, "the largest is told")
        assert center.content() == content
        with pytest.raises(ValueTooLarge):
            center.publish(KEY, content + "x")
        center.publish(KEY, "small")
        assert center.content() == "small"
        assert [len(item.data) for item in center.history()] == [5, largest]

    def test_14_bad_input(self, centers: Centers, face: FaceName) -> None:
        """What cannot be is refused with a typed error before anything is written."""
        center = centers.open(face)
        verb: Any = center.center
        for bad in BAD_NAMES:
            for call in _with_name(verb, bad):
                with pytest.raises(InvalidArgument):
                    center.do(call)
        calls: tuple[Callable[[], object], ...] = (
            lambda: verb.publish(KEY, None),
            lambda: verb.publish(KEY, 7),
            lambda: verb.publish(KEY, "\ud800"),
            lambda: verb.publish(KEY, "{", content_type="json"),
            lambda: verb.publish(KEY, "a = ", content_type="toml"),
            lambda: verb.publish(KEY, "x", content_type="a\nb"),
            lambda: verb.publish(KEY, "x", content_type=None),
            lambda: verb.publish(KEY, "x", content_type="x" * 65),
            lambda: verb.publish(KEY, "x", expected_revision=7),
            lambda: verb.publish(KEY, "x", expected_revision=""),
            lambda: verb.publish(KEY, "x", expected_revision="elsewhere:1-0123456789abcdef"),
            lambda: verb.remove(KEY, expected_revision="1-0123456789abcdef"),
            lambda: verb.remove(KEY, expected_revision=ABSENT),
            lambda: verb.rollback(KEY, "elsewhere:1"),
            lambda: verb.history(KEY, limit=0),
            lambda: verb.history(KEY, limit="5"),
            lambda: verb.get(KEY, timeout=0),
            lambda: verb.get(ConfigKey(KEY, "a"), group="b"),
            lambda: verb.add_listener(KEY, None),
        )
        for call in calls:
            with pytest.raises(InvalidArgument):
                center.do(call)
        assert center.get() is None
        assert list(center.history()) == []

    def test_15_nothing(self, centers: Centers, face: FaceName) -> None:
        """A key without a value is None, and nothing is removed there."""
        center = centers.open(face)
        assert center.get() is None
        assert center.remove() is False
        assert list(center.history()) == []
        with pytest.raises(InvalidArgument):
            center.rollback()

    def test_16_own_writes(self, centers: Centers, face: FaceName) -> None:
        """Whoever published, or removed, reads that or what came later, at once."""
        center = centers.open(face)
        center.recorder()
        for number in range(30):
            revision = center.publish(KEY, str(number))
            item = center.get()
            assert item is not None
            assert (item.content, item.revision) == (str(number), revision)
        assert center.remove() is True
        assert center.get() is None

    def test_20_only_if_absent(self, centers: Centers, face: FaceName) -> None:
        """With ABSENT a value is published only where there is none; the conflict names what is there."""
        one, other = centers.open(face), centers.open(face)
        revision = one.publish(KEY, "first", expected=ABSENT)
        with pytest.raises(Conflict) as caught:
            other.publish(KEY, "second", expected=ABSENT)
        assert (caught.value.expected, caught.value.present) == (None, revision)
        assert other.content() == "first"

    def test_21_only_if_unchanged(self, centers: Centers, face: FaceName) -> None:
        """With a revision a value is replaced, or removed, only if it is at that one; the conflict names both."""
        one, other = centers.open(face), centers.open(face)
        first = one.publish(KEY, "first")
        second = other.publish(KEY, "second", expected=first)
        assert second != first
        for refused in (lambda: one.publish(KEY, "third", expected=first), lambda: one.remove(expected=first)):
            with pytest.raises(Conflict) as caught:
                refused()
            assert (caught.value.expected, caught.value.present) == (first, second)
            assert first in str(caught.value)
            assert second in str(caught.value)
        assert one.content() == "second"
        assert one.remove(expected=second) is True
        with pytest.raises(Conflict) as caught:
            one.publish(KEY, "third", expected=second)
        assert (caught.value.expected, caught.value.present) == (second, None)
        assert one.get() is None

    def test_22_never_the_same_again(self, centers: Centers, face: FaceName) -> None:
        """A revision never comes back: not with the same content, and not after a removal."""
        center = centers.open(face)
        seen = [center.publish(KEY, content) for content in ("a", "b", "a", "a")]
        for _ in range(3):
            center.remove()
            seen.append(center.publish(KEY, "a", expected=ABSENT))
        assert len(set(seen)) == len(seen)
        for old in seen[:-1]:
            with pytest.raises(Conflict):
                center.publish(KEY, "c", expected=old)
        center.publish(KEY, "c", expected=seen[-1])

    def test_23_two_writers(self, centers: Centers, record_property: Callable[[str, object], None]) -> None:
        """Two writers that count up with compare-and-set lose no step and make none twice."""
        both, rounds = (centers.fresh(), centers.fresh()), self.increments
        began = time.monotonic()
        conflicts = _all(*(lambda center=center: increment(center, "count", rounds) for center in both))
        record_property("increments per second", round(2 * rounds / (time.monotonic() - began)))
        record_property("conflicts", sum(conflicts))
        with both[0], both[1]:
            item = both[0].get("count")
            assert item is not None
            assert int(item.text) == 2 * rounds
        assert sum(conflicts), "they never met: nothing was shown"

    def test_23_two_processes(self, centers: Centers) -> None:
        """As test_23_two_writers, in processes of their own."""
        centers.needs_processes()
        children = [centers.child("count", "count", self.increments) for _ in range(2)]
        for child in children:
            child.expect("done", 50.0)
        assert centers.open().content("count") == str(2 * self.increments)

    def test_24_one_creates(self, centers: Centers) -> None:
        """Of several that publish at once where there is nothing, with ABSENT, exactly one succeeds."""
        several = [centers.open() for _ in range(WRITERS)]
        for number in range(5):
            key = f"key {number}"
            answers = _all(*(lambda one=one: _outcome(one, key) for one in several))  # noqa: B023  called at once
            assert sorted(answers) == ["Conflict"] * (WRITERS - 1) + ["published"]

    def test_25_unconditional_writers(self, centers: Centers) -> None:
        """Without a condition all that publish at once succeed, and each value is in the history."""
        several = [centers.open() for _ in range(WRITERS)]
        several[0].publish(KEY, "first")
        _all(*(lambda one=one, name=name: _write(one, name) for name, one in enumerate(several)))
        expected = {"first", *(f"{name}.{number}" for name in range(WRITERS) for number in range(3))}
        found = several[0].history()
        assert {item.content for item in found} == expected
        assert found[0] == several[0].get()
        assert len({item.revision for item in found}) == len(found)


def _with_name(verb: Any, name: object) -> tuple[Callable[[], object], ...]:
    return (
        lambda: verb.get(name),
        lambda: verb.get(KEY, group=name),
        lambda: verb.publish(name, "x"),
        lambda: verb.remove(name),
        lambda: verb.watch(name),
        lambda: verb.history(name),
        lambda: verb.keys(group=name),
    )


def _all(*works: Callable[[], Any]) -> list[Any]:
    """Do everything at once, each on a thread; the answers, in order."""
    answers: list[Any] = [None] * len(works)
    gate = threading.Barrier(len(works))

    def run(place: int) -> None:
        gate.wait(STEP)
        try:
            answers[place] = works[place]()
        except BaseException as error:  # noqa: BLE001  the test tells
            answers[place] = error

    threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STEP * 10)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    assert None not in answers, "one of them hangs"
    return answers


def _outcome(center: Center, key: str) -> str:
    try:
        center.publish(key, "x", expected=ABSENT, timeout=STEP * 4)
    except RegistryError as error:
        return type(error).__name__
    return "published"


def _write(center: Center, name: int) -> bool:
    for number in range(3):
        center.publish(KEY, f"{name}.{number}", timeout=STEP * 4)
    return True
