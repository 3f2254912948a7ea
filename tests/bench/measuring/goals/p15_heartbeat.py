"""P15: the CPU that it takes to hold a thousand instances and watch their service, while nothing happens.

In a new interpreter for each time, the share of a core over seven seconds, two heartbeats at the default lease. Baseline: the raw client with a thousand records, one watch and the heartbeat that its library does by itself
(kazoo's pings) or that a careful application does (one `lease.refresh` on etcd, one command on Redis, each a third of the lease). Ours does
the same, and looks whether its records are still there, by which it finds them lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measuring import children
from measuring.places import SERVERS, Place
from measuring.report import Cell, of_limit
from measuring.rounds import Round, figures, rounded

GOAL = "P15"
TITLE = "Heartbeat"
BACKENDS = SERVERS
COUNT = 1_000
SECONDS = 7.0


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""

    def side(name: str) -> Callable[[], Any]:
        return lambda: children.run("holding", place, name, COUNT, SECONDS)

    shares: dict[str, list[float]] = {"ours": [], "raw": []}
    for _ in range(5):
        for name, found in shares.items():
            found.append(side(name)())
    pairs = sorted(ours / max(raw, 1e-6) for ours, raw in zip(shares["ours"], shares["raw"], strict=True))
    sides = {name: figures([Round((one,), one) for one in found]) for name, found in shares.items()}
    percent = rounded(sorted(shares["ours"])[len(shares["ours"]) // 2] * 100)
    cells = [of_limit("CPU against raw", rounded(pairs[len(pairs) // 2]), "times", 1.1, n=COUNT, sides=sides)]
    return [*cells, Cell("CPU", percent, "% of a core", n=COUNT)]
