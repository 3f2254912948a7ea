"""The operator of a Redis server."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from io import BufferedRWPair

from sofa_registry_adapters.testing.faults.operators.operator import Operator

_SECONDS = 5.0
_END_LEASES = """
for _, key in ipairs(redis.call('KEYS', '*}:leases')) do
  for _, owner in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZADD', key, 1, owner) end
end
"""


class RedisOperator(Operator):
    """Speaks RESP; ``words`` of a command are sent as they are."""

    abilities = frozenset({"forget", "expire", "hang_up"})

    def forget(self) -> None:
        self.ask("FLUSHALL")

    def expire(self) -> None:
        self.ask("EVAL", _END_LEASES, "0")

    def hang_up(self) -> None:
        for kind in ("pubsub", "normal"):
            self.ask("CLIENT", "KILL", "TYPE", kind)

    def version(self) -> str:
        found = re.search(r"^redis_version:(\S+)", str(self.ask("INFO", "server")), re.MULTILINE)
        return found[1] if found else ""

    def counts(self) -> Mapping[str, int]:
        clients = str(self.ask("CLIENT", "LIST")).strip().splitlines()
        watches = [part for line in clients for part in line.split() if part.startswith(("sub=", "psub="))]
        return {
            "connections": len(clients) - 1,  # this one is ours
            "watches": sum(int(part.partition("=")[2]) for part in watches),
            "keys": int(str(self.ask("DBSIZE"))),
        }

    def ask(self, *words: str) -> object:
        """The answer to one command. Raises `OSError`, also if the server says no."""
        with self._connected() as stream:
            stream.write(b"*%d\r\n" % len(words))
            for word in words:
                raw = word.encode()
                stream.write(b"$%d\r\n%s\r\n" % (len(raw), raw))
            stream.flush()
            return self._answer(stream)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[BufferedRWPair]:
        with (
            socket.create_connection((self.host, self.port), timeout=_SECONDS) as connection,
            connection.makefile("rwb") as stream,
        ):
            yield stream

    def _answer(self, stream: BufferedRWPair) -> object:
        line = stream.readline()
        if not line:
            raise ConnectionError(f"redis at {self.host}:{self.port} hung up")
        kind, text = line[:1], line[1:].decode().strip()
        if kind == b"-":
            raise OSError(f"redis at {self.host}:{self.port} says {text}")
        if kind == b"$":
            size = int(text)
            return None if size < 0 else stream.read(size + 2)[:-2].decode(errors="replace")
        if kind == b"*":
            return [self._answer(stream) for _ in range(int(text))]
        return text
