"""The one stream that all watches of an etcd store share, and what becomes of them when it is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sofa_registry_adapters.backends.etcd.keys import Span
from sofa_registry_adapters.backends.etcd.messages import Message, kv, rpc
from sofa_registry_adapters.backends.etcd.watching import Stream
from sofa_registry_adapters.errors import RegistryError, Unavailable

SPAN = Span(b"a", b"b")


class Conversation:
    token = ""

    def __init__(self, heard: Callable[[Message], None], ended: Callable[[RegistryError], None]) -> None:
        self.heard, self.ended = heard, ended
        self.said: list[Message] = []

    def say(self, request: Message) -> None:
        self.said.append(request)


class Line:
    """The way to the servers, on which a test speaks for them."""

    token = ""

    def __init__(self) -> None:
        self.conversations: list[Conversation] = []

    def converse(self, call: object, heard: Any, ended: Any) -> Conversation:
        self.conversations.append(Conversation(heard, ended))
        return self.conversations[-1]

    def answer(self, number: int) -> None:
        self.conversations[-1].heard(rpc.WatchResponse(watch_id=number, created=True))

    def change(self, number: int, key: bytes) -> None:
        event = kv.Event(kv=kv.KeyValue(key=key, mod_revision=7))
        self.conversations[-1].heard(rpc.WatchResponse(watch_id=number, events=[event]))


class Ear:
    def __init__(self) -> None:
        self.is_open, self.keys, self.reason = False, list[bytes](), None

    def opened(self) -> None:
        self.is_open = True

    def changed(self, events: Sequence[Message]) -> None:
        self.keys += [event.kv.key for event in events]

    def compacted(self) -> None:
        raise AssertionError("nothing was compacted")

    def cut(self, reason: RegistryError) -> None:
        self.reason = reason


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def stream(line: Line) -> Stream:
    return Stream(line)  # type: ignore[arg-type]


def test_a_watch_that_ends_late_takes_no_other_of_its_number_along(line: Line, stream: Stream) -> None:
    """After a cut the server counts from the beginning, and who read the old watch may come to its end late."""
    old, new = Ear(), Ear()
    before = stream.watch(old, SPAN, 1)
    line.answer(0)
    line.conversations[0].ended(Unavailable("the server is gone"))
    assert isinstance(old.reason, Unavailable)
    stream.watch(new, SPAN, 1)
    line.answer(0)
    stream.end(before)
    line.change(0, b"ab")
    assert new.keys == [b"ab"]
    assert not any(one.HasField("cancel_request") for one in line.conversations[1].said)


def test_a_watch_that_ends_is_ended_on_the_server(line: Line, stream: Stream) -> None:
    early, late = Ear(), Ear()
    first = stream.watch(early, SPAN, 1)
    line.answer(4)
    second = stream.watch(late, SPAN, 1)
    stream.end(second)
    line.answer(5)
    stream.end(first)
    said = [one.cancel_request.watch_id for one in line.conversations[0].said if one.HasField("cancel_request")]
    assert said == [5, 4]
    assert not late.is_open
    line.change(4, b"ab")
    assert not early.keys
