"""What was measured, as it is kept in JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec

BACKENDS = ("redis", "zookeeper", "etcd", "nacos")
RESULTS = Path(__file__).parent.parent / "results"


class Traffic(msgspec.Struct, frozen=True):
    """Messages and bytes, from clients to the server and back."""

    messages_up: float = 0.0
    messages_down: float = 0.0
    bytes_up: float = 0.0
    bytes_down: float = 0.0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one change of one instance costs, in a service of so many instances with so many consumers.

    ``publisher``: on the line of who changes; ``consumer``: of one consumer; ``processor``: microseconds of the server's processors.
    """

    instances: int
    consumers: int
    changes: int
    publisher: Traffic
    consumer: Traffic
    processor: float


class First(msgspec.Struct, frozen=True, kw_only=True):
    """What the first list of a service costs one consumer."""

    instances: int
    consumer: Traffic


class Herd(msgspec.Struct, frozen=True, kw_only=True):
    """Every client recovers at once, after the server restarted.

    Each has ``registrations`` and ``subscriptions``. ``attempts``: connections that were tried while the server was away, by a client and
    second. ``idle``: messages to the server in a second while nothing happens; ``operations``: those until everything is as it was, without what would have been
    sent anyway; ``peak``: most in one second, all together. ``loaded``: the same at the first start, when everybody began.
    """

    clients: int
    registrations: int
    subscriptions: int
    kept: bool
    away: float
    attempts: float
    connections: int
    idle: float = 0.0
    operations: int
    peak: int
    seconds: float
    loaded: int
    window: float = 1.0

    @property
    def rush(self) -> float:
        """Messages of the busiest second that would not have been sent anyway."""
        return max(0.0, self.peak - self.idle)

    @property
    def bound(self) -> float:
        """I13: the most that the rush may be."""
        return 2 * self.clients * (self.registrations + self.subscriptions) / self.window


class Scale(msgspec.Struct, kw_only=True):
    """One product."""

    backend: str
    versions: str = ""
    machine: str = ""
    date: str = ""
    changes: list[Change] = []
    firsts: list[First] = []
    idle_publisher: Traffic = Traffic()
    idle_consumer: Traffic = Traffic()
    stored: float = 0.0
    """Bytes that the server needs for one instance more; 0 where it cannot be asked."""
    herds: list[Herd] = []

    def write(self) -> None:
        """Write it."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=1)
        (RESULTS / f"{self.backend}.json").write_bytes(text + b"\n")


def read(backend: str) -> Scale:
    """What was measured last; empty where nothing was."""
    path = RESULTS / f"{backend}.json"
    return msgspec.json.decode(path.read_bytes(), type=Scale) if path.exists() else Scale(backend=backend)
