"""P11: subscriptions to a thousand services.

In a new interpreter for each time. Baseline: the raw client reads and watches each service, one after the other, on one connection. Ours: `Registry.subscribe`, one after the
other, each with its first view. *Bytes* are what Python allocates for a subscription to a service that has no instances. *Idle* is the share of a core
that a thousand subscriptions to services of ten instances take while nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measuring import children
from measuring.places import SERVERS, Place
from measuring.report import Cell, of_limit
from measuring.rounds import alternate, figures, ratio
from measuring.writer import writer

GOAL = "P11"
TITLE = "Many subscriptions"
BACKENDS = ("local", *SERVERS)
COUNT = 1_000
IDLE_SECONDS = 5.0


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""

    def side(name: str) -> Callable[[], Any]:
        return lambda: [children.run("subscribing", place, name, COUNT) / COUNT]

    with writer(place) as author:
        author.fill("other", 1)
        for number in range(COUNT):
            author.fill(f"many-{number}", 10)
        names = ("ours",) if place.backend == "local" else ("ours", "raw")
        found = alternate({name: side(name) for name in names}, min(rounds, 5))
        sides = {name: figures(played, cpu=False) for name, played in found.items()}
        cells = []
        if "raw" in found:
            times = ratio(found, "ours", "raw")
            cells.append(of_limit("time of a subscription against raw", times, "times", 1.2, n=COUNT, sides=sides))
        size = round(children.run("subscription_bytes", place, COUNT))
        cells.append(of_limit("bytes of a subscription", size, "bytes", 2048.0, n=COUNT))
        share = children.run("idle", place, COUNT, IDLE_SECONDS)
        cells.append(of_limit("idle", round(share * 100, 2), "% of a core", 0.5, n=COUNT))
    return cells
