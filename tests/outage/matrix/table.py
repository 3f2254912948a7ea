"""The table of rows, declared beside the functions that test them, and the results of cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from matrix.cell import Cell

BACKENDS = ("local", "redis", "zookeeper", "etcd", "nacos")
RESULTS = Path(__file__).parent.parent / "results"
Outcome = Literal["held", "failed", "not applicable"]
Play = Callable[["Cell"], None]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the fault table, or a part of one.

    ``needs``: names of nemeses; where one is not possible the cell is not applicable. ``absent`` says for backends why they have no
    such cell. ``place``: where it is played, if not on one server that lets everybody in; see `places`. ``gate``: the backends for
    which it is played whenever the tests are run.
    """

    number: int
    part: str
    fault: str
    invariants: tuple[str, ...]
    play: Play
    needs: tuple[str, ...] = ()
    absent: Mapping[str, str] = {}
    place: str = ""
    gate: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its name in results and tests."""
        return f"{self.number:02d}-{self.part}" if self.part else f"{self.number:02d}"


FAULTS: Mapping[int, str] = {
    1: "the server is restarted",
    2: "sessions or leases expire",
    3: "a provider restarts while its old record is there",
    4: "records are lost",
    5: "connections are reset",
    6: "silence: nobody answers, and nobody is told",
    7: "a slow server or line",
    8: "a client is stopped for longer than its lease",
    9: "the disk snapshot cannot be written or read",
    10: "the registry loses its data",
    11: "everybody registers at once",
    12: "wall clocks jump",
    13: "corrupt records",
    14: "oversized records",
    15: "credentials are revoked or replaced",
    16: "certificates are replaced, expire, name another host",
    17: "the leader of three fails over",
    18: "servers are upgraded one by one",
    19: "migration from one registry to another",
    20: "a consumer starts without the registry",
    21: "a provider is killed",
    22: "a provider stops as it should",
    23: "an instance flaps",
    24: "history is dropped while a watcher is away",
    25: "a subscription has a gap",
    26: "listeners misbehave",
    27: "a process forks",
    28: "one id twice",
    29: "a server answers with what is old",
    30: "an unregister races with a reconnect",
}
"""The rows by number; a row may be played in several parts."""

ROWS: dict[str, Row] = {}


def row(
    number: int,
    fault: str,
    *invariants: str,
    part: str = "",
    needs: tuple[str, ...] = (),
    absent: Mapping[str, str] | None = None,
    place: str = "",
    gate: tuple[str, ...] = (),
) -> Callable[[Play], Play]:
    """Enter the function as the test of a row."""

    def enter(play: Play) -> Play:
        made = Row(
            number=number,
            part=part,
            fault=fault,
            invariants=invariants,
            play=play,
            needs=needs,
            absent=absent or {},
            place=place,
            gate=gate,
        )
        assert made.id not in ROWS, made.id
        ROWS[made.id] = made
        return play

    return enter


class Figure(msgspec.Struct, frozen=True):
    """Something that became true, or stayed so: after so many seconds, within a bound."""

    invariant: str
    what: str
    seconds: float
    bound: float


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one cell."""

    outcome: Outcome
    fault: str
    invariants: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    checks: int = 0
    seconds: float = 0.0
    reason: str = ""


class Results(msgspec.Struct, kw_only=True):
    """The cells of one backend, as they were played last."""

    backend: str
    versions: str = ""
    date: str = ""
    cells: dict[str, Result] = msgspec.field(default_factory=dict)

    def write(self, folder: Path = RESULTS) -> None:
        """Write them, sorted."""
        self.cells = dict(sorted(self.cells.items()))
        text = msgspec.json.format(msgspec.json.encode(self), indent=1)
        (folder / f"{self.backend}.json").write_bytes(text + b"\n")


def read(backend: str, folder: Path = RESULTS) -> Results:
    """The results of a backend; none where it was never played."""
    path = folder / f"{backend}.json"
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results(backend=backend)
