"""The table of killers, declared beside the functions that play them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from matrix.cell import Cell
from matrix.table import BACKENDS
from matrix.table import RESULTS as OUTAGES

RESULTS = OUTAGES / "killers"
Play = Callable[[Cell], None]
CHOSEN = ("redis", "zookeeper", "etcd")
"""Where a killer is played that asks the client library and the interpreter, not the product."""


class Killer(msgspec.Struct, frozen=True, kw_only=True):
    """Something that ends, or nearly ends, a Python program.

    ``meanwhile`` and ``after`` say what the registry shows. ``absent`` says for backends why they have no such cell.
    ``gate``: the backends for which it is played whenever the tests are run.
    """

    name: str
    what: str
    meanwhile: str
    after: str
    invariants: tuple[str, ...]
    play: Play
    absent: Mapping[str, str] = {}
    gate: tuple[str, ...] = ()

    @property
    def backends(self) -> tuple[str, ...]:
        """Where it is played."""
        return tuple(one for one in BACKENDS if one not in self.absent)


KILLERS: dict[str, Killer] = {}


def killer(
    what: str,
    *invariants: str,
    meanwhile: str,
    after: str,
    absent: Mapping[str, str] | None = None,
    gate: tuple[str, ...] = (),
) -> Callable[[Play], Play]:
    """Enter the function as the play of a killer, under its name."""

    def enter(play: Play) -> Play:
        name = play.__name__.replace("_", "-")
        assert name not in KILLERS, name
        KILLERS[name] = Killer(
            name=name,
            what=what,
            meanwhile=meanwhile,
            after=after,
            invariants=invariants,
            play=play,
            absent=absent or {},
            gate=gate,
        )
        return play

    return enter
