"""The operator of a ZooKeeper server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Self

from sofa_registry_adapters.testing.faults.operators.operator import Operator

_SECONDS = 5.0
_SESSION_MS = 10_000
_SECRET = 0xB3415C00
"""What the server makes the passwords of sessions from (ZooKeeperServer.superSecret)."""
_KEPT = frozenset({"/zookeeper"})
_CLOSE, _DELETE, _SET_ACL, _CHILDREN, _AUTH = -11, 2, 7, 8, 100
_AUTH_XID = -4
_ALL_RIGHTS = 31
_NO_NODE, _NOT_EMPTY = -101, -111
_COUNTS = {
    "connections": "zk_num_alive_connections",
    "watches": "zk_watch_count",
    "leases": "zk_global_sessions",
    "records": "zk_ephemerals_count",
    "nodes": "zk_znode_count",
}


class ZooKeeperOperator(Operator):
    """Four-letter words (``4lw.commands.whitelist=*``), and a client of the few requests that it takes."""

    abilities = frozenset({"forget", "expire", "hang_up"})

    def forget(self) -> None:
        with _Client(self.host, self.port) as client:
            client.clear("/")

    def expire(self) -> None:
        for session in self._sessions():
            with contextlib.suppress(ConnectionError):  # over already
                _Client(self.host, self.port, session).end()

    def hang_up(self) -> None:
        """Each session is taken to a connection of ours, which ends at once: the session itself lives on."""
        for session in self._sessions():
            with contextlib.suppress(ConnectionError):
                _Client(self.host, self.port, session).drop()

    def entrust(self, owner: str, *identities: str) -> None:
        """All that is there, but the root itself, belongs to ``owner`` from now on, who may do everything, and others nothing.

        An identity is ``user:password``; the ``identities`` are those that what is there may have belonged to.
        """
        with _Client(self.host, self.port) as client:
            for identity in (owner, *identities):
                client.identify(identity)
            client.entrust("/", _digest(owner))

    def version(self) -> str:
        found = re.search(r"Zookeeper version: ([\d.]+)", self.word("srvr"))
        return found[1] if found else ""

    def counts(self) -> Mapping[str, int]:
        said = dict(line.split("\t", 1) for line in self.word("mntr").splitlines() if "\t" in line)
        counted = {name: int(float(said.get(key, 0))) for name, key in _COUNTS.items()}
        # The connection that asks is one of them.
        own = {"connections": counted["connections"] - 1, "nodes": counted["nodes"] - counted["records"]}
        return {**counted, **own}

    def word(self, name: str) -> str:
        """The answer to a four-letter word."""
        with socket.create_connection((self.host, self.port), timeout=_SECONDS) as connection:
            connection.sendall(name.encode())
            pieces = iter(lambda: connection.recv(65_536), b"")
            return b"".join(pieces).decode(errors="replace")

    def _sessions(self) -> list[int]:
        """The sessions that have a connection."""
        return [int(found, 16) for found in re.findall(r"sid=0x([0-9a-f]+)", self.word("cons"))]


class _Client:
    """One connection, with a session of its own or with one that it takes over."""

    def __init__(self, host: str, port: int, session: int = 0) -> None:
        self._connection = socket.create_connection((host, port), timeout=_SECONDS)
        password = _password(session) if session else bytes(16)
        self._send(struct.pack(">iqiq", 0, 0, _SESSION_MS, session) + _text(password))
        _, granted, self.session = struct.unpack_from(">iiq", self._receive())
        if granted <= 0:
            self._connection.close()
            raise ConnectionError(f"the session {session:#x} is over")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Close the session, and then the connection."""
        with contextlib.closing(self._connection):
            self._ask(_CLOSE, b"")

    def drop(self) -> None:
        """Close the connection, without a word."""
        self._connection.close()

    def clear(self, path: str) -> None:
        """Delete all that is below ``path``; what others write meanwhile may stay."""
        for name in self._children(path):
            child = f"{path.rstrip('/')}/{name}"
            if child not in _KEPT:
                self.clear(child)
                self._ask(_DELETE, _text(child.encode()) + struct.pack(">i", -1))

    def identify(self, identity: str) -> None:
        """Add an identity to those of this connection."""
        self._ask(_AUTH, struct.pack(">i", 0) + _text(b"digest") + _text(identity.encode()), xid=_AUTH_XID)

    def entrust(self, path: str, digest: str) -> None:
        """Give all that is below ``path`` to one identity."""
        right = struct.pack(">ii", 1, _ALL_RIGHTS) + _text(b"digest") + _text(digest.encode()) + struct.pack(">i", -1)
        for name in self._children(path):
            child = f"{path.rstrip('/')}/{name}"
            if child not in _KEPT:
                self.entrust(child, digest)
                self._ask(_SET_ACL, _text(child.encode()) + right)

    def _children(self, path: str) -> Iterator[str]:
        body = self._ask(_CHILDREN, _text(path.encode()) + b"\0")
        if not body:
            return
        (count,), at = struct.unpack_from(">i", body), 4
        for _ in range(count):
            (size,) = struct.unpack_from(">i", body, at)
            yield body[at + 4 : at + 4 + size].decode()
            at += 4 + size

    def _ask(self, kind: int, body: bytes, xid: int = 1) -> bytes:
        self._send(struct.pack(">ii", xid, kind) + body)
        while True:
            answer = self._receive()
            answered, _, error = struct.unpack_from(">iqi", answer)
            if answered != xid:
                continue
            if error not in (0, _NO_NODE, _NOT_EMPTY):
                raise OSError(f"ZooKeeper answered the request {kind} with the error {error}")
            return answer[16:] if not error else b""

    def _send(self, body: bytes) -> None:
        self._connection.sendall(struct.pack(">i", len(body)) + body)

    def _receive(self) -> bytes:
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self._connection.recv(size - len(found))
            if not piece:
                raise ConnectionError("ZooKeeper hung up")
            found += piece
        return found


def _text(raw: bytes) -> bytes:
    return struct.pack(">i", len(raw)) + raw


def _digest(identity: str) -> str:
    """How ZooKeeper writes ``user:password`` in an access list."""
    user = identity.partition(":")[0]
    return f"{user}:{base64.b64encode(hashlib.sha1(identity.encode()).digest()).decode()}"  # noqa: S324  ZooKeeper's choice


def _password(session: int) -> bytes:
    """The password of a session: sixteen bytes of java.util.Random, seeded by its id."""
    mask = (1 << 48) - 1
    state = (session ^ _SECRET ^ 0x5DEECE66D) & mask
    made = b""
    while len(made) < 16:
        state = (state * 0x5DEECE66D + 0xB) & mask
        made += struct.pack("<I", state >> 16 & 0xFFFFFFFF)
    return made
