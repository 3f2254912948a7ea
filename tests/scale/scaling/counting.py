"""A proxy that counts the messages of a protocol as well as its bytes."""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sofa_registry_adapters.testing.faults import NetProxy

_FRAME = 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA = 0
BUCKET = 0.1
"""Seconds; messages are counted in such slices of time."""


class Reader:
    """One direction of one connection: bytes go in, complete messages are counted."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> int:
        """The messages that are complete with this chunk."""
        self._held += chunk
        place = count = 0
        while (end := self._end(place)) > 0:
            count += self._counts(place)
            place = end
        del self._held[:place]
        return count

    def _end(self, place: int) -> int:
        """Where the message ends that begins at ``place``; 0 while it is not complete."""
        raise NotImplementedError

    def _counts(self, _: int) -> bool:
        return True


class Resp(Reader):
    """What Redis speaks: a command, an answer or a published message."""

    def _end(self, place: int) -> int:
        line = self._held.find(b"\r\n", place)
        if line < 0:
            return 0
        kind, end = bytes(self._held[place : place + 1]), line + 2
        if kind in {b"$", b"=", b"!"}:
            size = int(self._held[place + 1 : line])
            end += max(0, size + 2)
            return end if end <= len(self._held) else 0
        if kind in {b"*", b"~", b">", b"%"}:
            for _ in range(int(self._held[place + 1 : line]) * (2 if kind == b"%" else 1)):
                if not (end := self._end(end)):
                    return 0
        return end


class Jute(Reader):
    """What ZooKeeper speaks: each message has its length before it."""

    def _end(self, place: int) -> int:
        if len(self._held) < place + 4:
            return 0
        end = place + 4 + int.from_bytes(self._held[place : place + 4], "big")
        return end if end <= len(self._held) else 0


class Http2(Reader):
    """What gRPC speaks: counted are the frames with data, a message each unless it is longer than a frame."""

    def _end(self, place: int) -> int:
        if self._held[place : place + len(_PREFACE)] == _PREFACE:
            return place + len(_PREFACE)
        if len(self._held) < place + _FRAME:
            return 0
        end = place + _FRAME + int.from_bytes(self._held[place : place + 3], "big")
        return end if end <= len(self._held) else 0

    def _counts(self, place: int) -> bool:
        size = int.from_bytes(self._held[place : place + 3], "big")
        return self._held[place + 3] == _DATA and size > 0 and self._held[place : place + 3] != _PREFACE[:3]


READERS: Mapping[str, Callable[[], Reader]] = {"redis": Resp, "zookeeper": Jute, "etcd": Http2, "nacos": Http2}


class CountingProxy(NetProxy):
    """`up` and `down` are messages so far; `slices` has those up by slice of time since the loop's clock began."""

    def __init__(self, product: str, upstream: tuple[str, int], *, offsets: Sequence[int] = (0,)) -> None:
        self.up: int = 0
        self.down: int = 0
        self.slices: Counter[int] = Counter()
        self._make = READERS[product]
        self._readers: weakref.WeakKeyDictionary[socket.socket, Reader] = weakref.WeakKeyDictionary()
        super().__init__(upstream, offsets=offsets)

    async def _pass_on(self, sink: socket.socket, chunk: bytes, way: Any) -> None:
        reader = self._readers.get(sink)
        if reader is None:
            reader = self._readers[sink] = self._make()
        count = reader.feed(chunk)
        if way is self._up:
            self.up += count
            self.slices[int(asyncio.get_running_loop().time() / BUCKET)] += count
        else:
            self.down += count
        await super()._pass_on(sink, chunk, way)

    def counted(self) -> tuple[int, int, int, int]:
        """Messages up and down, bytes up and down."""
        return self.up, self.down, self.bytes_up, self.bytes_down
