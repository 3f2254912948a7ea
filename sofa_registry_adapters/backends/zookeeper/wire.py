"""The requests this backend sends, as bytes: transactions, bulk reads, persistent watches.

ZooKeeper's ``zookeeper.jute``; bulk reads (request 22) and persistent watches (106) since 3.6. kazoo 2.11 has neither.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

OK = 0
ROLLED_BACK = -2
CONNECTION_LOSS = -4
UNIMPLEMENTED = -6
NO_NODE = -101
NO_AUTH = -102
BAD_VERSION = -103
NODE_EXISTS = -110
NOT_EMPTY = -111
SESSION_EXPIRED = -112
AUTH_FAILED = -115

CREATED, DELETED, CHANGED = 1, 2, 3
"""Kinds of event."""

_INT = struct.Struct("!i")
_STAT = struct.Struct("!qqqqiiiqiiq")
_HEADER = struct.Struct("!iBi")
_EVENT = struct.Struct("!ii")
_END = _HEADER.pack(-1, 1, -1)
_NULL = _INT.pack(-1)
_EPHEMERAL, _CONTAINER = 1, 4
_NO_SESSION = 1 << 63
"""Owners with the highest bit are the marks of container nodes and nodes with a time to live."""


class Stat(NamedTuple):
    """What the server says about a node. ``owner`` is the session of an ephemeral node, 0 for others."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    mark: int
    length: int
    children: int
    pzxid: int

    @classmethod
    def made(cls, zxid: int, owner: int) -> Stat:
        """A node that was made by the change ``zxid``."""
        return cls(zxid, zxid, 0, 0, 0, 0, 0, owner, 0, 0, zxid)

    @property
    def owner(self) -> int:
        """The session whose end removes the node; 0 if there is none."""
        return 0 if self.special else self.mark

    @property
    def special(self) -> bool:
        """Whether it is a container node, or one with a time to live."""
        mark = self.mark & (2 * _NO_SESSION - 1)
        return mark == _NO_SESSION or mark >> 56 == 0xFF

    @property
    def revision(self) -> str:
        """Differs for each write, also where a node was deleted and made again."""
        return f"{self.czxid}:{self.version}"


class Reply(NamedTuple):
    """The answer to one operation: an error code, or what was asked for."""

    code: int = OK
    stat: Stat | None = None
    data: bytes | None = None
    names: Sequence[str] = ()


DONE = Reply()


class Answer(NamedTuple):
    """The answer to one request; ``zxid`` is the last change the server had applied when it answered."""

    zxid: int
    replies: Sequence[Reply] = ()

    @property
    def failure(self) -> int | None:
        """The position of the operation that made a transaction fail; None if it was applied."""
        if not self.replies or not self.replies[0].code:
            first = next((place for place, reply in enumerate(self.replies) if reply.code), None)
            if first is None:
                return None
        return next((place for place, reply in enumerate(self.replies) if reply.code not in {OK, ROLLED_BACK}), 0)


class Request(Protocol):
    """What a connection can send."""

    type: ClassVar[int]

    def serialize(self) -> bytes:
        """The bytes after the header."""
        ...

    def replies(self, buffer: bytes, offset: int) -> Sequence[Reply]:
        """Read the answer."""
        ...


class Operation(NamedTuple):
    """One operation of a transaction or a bulk read, ready to be sent."""

    type: int
    body: bytes


def _text(text: str) -> bytes:
    raw = text.encode()
    return _INT.pack(len(raw)) + raw


def _data(data: bytes | None) -> bytes:
    return _NULL if data is None else _INT.pack(len(data)) + data


READ = 1
ALL = 31


def access(kind: str) -> bytes:
    """The access list of a new node, for the option ``acl``: ``open``, ``creator`` or ``readable``."""
    world, creator = ("world", "anyone"), ("auth", "")
    entries = {"open": [(ALL, world)], "creator": [(ALL, creator)], "readable": [(ALL, creator), (READ, world)]}[kind]
    listed = (_INT.pack(rights) + _text(scheme) + _text(name) for rights, (scheme, name) in entries)
    return _INT.pack(len(entries)) + b"".join(listed)


def create(path: str, data: bytes | None, acl: bytes, *, ephemeral: bool) -> Operation:
    """Make a node. Answered with nothing: see `Stat.made`."""
    return Operation(1, _text(path) + _data(data) + acl + _INT.pack(_EPHEMERAL if ephemeral else 0))


def create_container(path: str, acl: bytes) -> Operation:
    """Make a node that vanishes some time after its last child."""
    return Operation(19, _text(path) + _NULL + acl + _INT.pack(_CONTAINER))


def delete(path: str, version: int) -> Operation:
    """Delete a node that is at the version."""
    return Operation(2, _text(path) + _INT.pack(version))


def set_data(path: str, data: bytes, version: int) -> Operation:
    """Write a node that is at the version. Answered with its stat."""
    return Operation(5, _text(path) + _data(data) + _INT.pack(version))


def get_data(path: str) -> Operation:
    """Read a node. Answered with its data and stat."""
    return Operation(4, _text(path) + b"\0")


def get_children(path: str) -> Operation:
    """List a node. Answered with the names of its children."""
    return Operation(8, _text(path) + b"\0")


class _Many:
    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations

    def serialize(self) -> bytes:
        parts: list[bytes] = []
        for kind, body in self._operations:
            parts += (_HEADER.pack(kind, 0, -1), body)
        parts.append(_END)
        return b"".join(parts)

    def replies(self, buffer: bytes, offset: int) -> Sequence[Reply]:
        found: list[Reply] = []
        while True:
            kind, done, _ = _HEADER.unpack_from(buffer, offset)
            if done:
                return found
            reply, offset = _READERS[kind](buffer, offset + _HEADER.size)
            found.append(reply)


class Transaction(_Many):
    """All of the operations, or none."""

    type: ClassVar[int] = 14


class BulkRead(_Many):
    """Many reads in one request; each has its own answer."""

    type: ClassVar[int] = 22


class AddWatch:
    """Be told of every change of the path and all below it, whether it exists or not, until it is removed."""

    type: ClassVar[int] = 106

    def __init__(self, path: str) -> None:
        self._path = path

    def serialize(self) -> bytes:
        return _text(self._path) + _INT.pack(1)

    def replies(self, buffer: bytes, offset: int) -> Sequence[Reply]:
        return ()


class RemoveWatch(AddWatch):
    """The end of `AddWatch`."""

    type: ClassVar[int] = 18

    def serialize(self) -> bytes:
        return _text(self._path) + _INT.pack(3)


def read_event(buffer: bytes, offset: int) -> tuple[int, str]:
    """The kind and the path of a watch event."""
    kind, _ = _EVENT.unpack_from(buffer, offset)
    return kind, _read_text(buffer, offset + _EVENT.size)[0]


def _read_text(buffer: bytes, offset: int) -> tuple[str, int]:
    (length,) = _INT.unpack_from(buffer, offset)
    start = offset + _INT.size
    end = start + max(length, 0)
    return str(buffer[start:end], "utf-8"), end


def _read_stat(buffer: bytes, offset: int) -> tuple[Stat, int]:
    return Stat._make(_STAT.unpack_from(buffer, offset)), offset + _STAT.size


def _created(buffer: bytes, offset: int) -> tuple[Reply, int]:
    return DONE, _read_text(buffer, offset)[1]


def _container_created(buffer: bytes, offset: int) -> tuple[Reply, int]:
    return DONE, _read_text(buffer, offset)[1] + _STAT.size


def _written(buffer: bytes, offset: int) -> tuple[Reply, int]:
    stat, offset = _read_stat(buffer, offset)
    return Reply(stat=stat), offset


def _data_read(buffer: bytes, offset: int) -> tuple[Reply, int]:
    (length,) = _INT.unpack_from(buffer, offset)
    start = offset + _INT.size
    end = start + max(length, 0)
    stat, offset = _read_stat(buffer, end)
    return Reply(OK, stat, None if length < 0 else bytes(buffer[start:end])), offset


def _children_read(buffer: bytes, offset: int) -> tuple[Reply, int]:
    (count,) = _INT.unpack_from(buffer, offset)
    offset += _INT.size
    names: list[str] = []
    for _ in range(count):
        name, offset = _read_text(buffer, offset)
        names.append(name)
    return Reply(names=names), offset


def _nothing(buffer: bytes, offset: int) -> tuple[Reply, int]:  # noqa: ARG001  nothing is in it
    return DONE, offset


def _failed(buffer: bytes, offset: int) -> tuple[Reply, int]:
    return Reply(_INT.unpack_from(buffer, offset)[0]), offset + _INT.size


_READERS = {
    -1: _failed,
    1: _created,
    2: _nothing,
    4: _data_read,
    5: _written,
    8: _children_read,
    15: _container_created,
    19: _container_created,
}
