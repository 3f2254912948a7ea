"""P5: from a change in the registry to the listener.

Another process writes or deletes one instance; the time runs from the moment in which it sends that. Baseline: the raw client's own watch, on a second service with as many
instances on the same server: kazoo's `ChildrenWatch`, with a get for each new node, whose address a consumer needs; etcd3's watch on the
prefix; a Redis subscription; a thread that looks at an SQLite file as often as ours. All of them only call a function. Ours: a listener of
`Registry.subscribe`, called on a thread of its own with the decoded instance and the new view. Both watches are open at the same time,
and their services change in turns. Limits: p50 up to 1.1 raw and one hop of at most 150 µs; 10 000 instances up to 1.1 times ten, on
ZooKeeper up to 0.3 times the raw client's watch (which hands over the whole list each time).
tooz has no push: its watchers are called when the application asks, and then read all members (see P2).
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from measuring.goals.p04_publish import HOP, nothing
from measuring.places import STORES, Place
from measuring.raw.client import raw_client
from measuring.report import Cell, of_limit
from measuring.rounds import alternate, figures, ratio, repeated, rounded, used
from measuring.writer import Writer, writer

GOAL = "P5"
TITLE = "Notify"
BACKENDS = tuple(one for one in STORES if one != "memory")
SIZES = (10, 1_000, 10_000)
CHANGES = {"local": 10}
"""In one round; the poll of ``local`` makes each last some milliseconds."""


class Ear:
    """When the listener was called last."""

    def __init__(self) -> None:
        self.at = 0.0
        self._heard = threading.Event()

    def told(self, *_: object) -> None:
        """The listener."""
        self.at = time.monotonic()
        self._heard.set()

    def clear(self) -> None:
        """Listen anew."""
        self._heard.clear()

    def wait(self) -> float:
        """The moment of the call."""
        if not self._heard.wait(20):
            message = "a change was not told within 20 s"
            raise TimeoutError(message)
        return self.at


def changes(author: Writer, service: str, number: int, ear: Ear, count: int) -> Callable[[], list[float]]:
    """A round: an instance comes, and goes, and so on."""

    def play() -> list[float]:
        found = []
        for turn in range(count):
            ear.clear()
            start = (author.drop if turn % 2 else author.put)(service, number)
            found.append(ear.wait() - start)
            time.sleep(0.001)
        return found

    return play


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""
    cells: list[Cell] = []
    hop = _hop(place)
    for size in SIZES:
        with writer(place) as author, raw_client(place) as raw, place.registry() as registry:
            found = _play(place, size, rounds, (author, raw, registry))
        cells.append(_cell(size, found, hop))
    growth = rounded(cells[-1].sides["ours"].p50 / cells[0].sides["ours"].p50)
    cells.append(of_limit("change to listener, 10 000 instances against 10", growth, "times", 1.1, n=SIZES[-1]))
    if place.backend == "zookeeper":
        times = cells[-2].ratios["ours / raw"]
        cells.append(of_limit("change to listener against ChildrenWatch", times, "times", 0.3, n=SIZES[-1]))
    return cells


def _play(place: Place, size: int, rounds: int, parts: tuple[Writer, Any, Any]) -> Any:
    author, raw, registry = parts
    names = {side: f"{side}-{size}" for side in ("ours", "raw")}
    for name in names.values():
        author.fill(name, size)
    ears = {side: Ear() for side in names}
    registry.subscribe(names["ours"], ears["ours"].told, timeout=60)
    raw.watch(names["raw"], ears["raw"].told)
    time.sleep(0.5)
    count = CHANGES.get(place.backend, 40)
    return alternate({side: changes(author, names[side], size, ears[side], count) for side in names}, rounds)


def _hop(place: Place) -> float:
    with place.registry() as registry:
        session = registry._opened()
        side = repeated(lambda: session.run(nothing(), 5), 200)
        return min(HOP, statistics.median(side()))


def _cell(size: int, found: Any, hop: float) -> Cell:
    sides = {name: figures(played) for name, played in found.items()}
    part = used(found, "ours", lambda number: 1.1 * statistics.median(found["raw"][number].wall) + hop)
    limit = rounded(1.1 * sides["raw"].p50 + hop * 1e6)
    ratios = {"ours / raw": ratio(found, "ours", "raw"), "ours / raw, CPU": ratio(found, "ours", "raw", cpu=True)}
    return Cell("change to listener, p50", sides["ours"].p50, "µs", limit, part, n=size, sides=sides, ratios=ratios)
