"""P12: one change and a thousand listeners.

All listeners are of one service of a hundred instances, in memory, and make a table of addresses of the new view, as a client does that opens connections. Baseline: a loop that calls the same thousand functions
with the same change, in one thread. Ours: from the moment in which the change is handed to the engine's mirror until the last
listener has returned. Limit: twice. *Blocked*: a further listener sleeps a second in each change; how much later the others are told, 99 % of them.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec

from measuring.content import address
from measuring.places import Place
from measuring.report import Cell, of_limit
from measuring.rounds import alternate, figures, percentile, ratio, rounded
from sofa_registry_adapters.model.views import InstancesChange

GOAL = "P12"
TITLE = "Fan-out"
BACKENDS = ("memory",)
LISTENERS = 1_000
SIZE = 100


class Crowd:
    """Listeners, and when each was done."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.done: list[float] = []
        self.complete = threading.Event()
        self.change: Any = None

    def listener(self) -> Any:
        """One more."""

        def told(change: InstancesChange) -> None:
            self.change = change
            {one.instance_id: (one.host, one.port) for one in change.instances}
            self.done.append(time.perf_counter())
            if len(self.done) == self.count:
                self.complete.set()

        return told

    def clear(self) -> None:
        """Before a change."""
        self.done.clear()
        self.complete.clear()


def measure(place: Place, rounds: int) -> list[Cell]:
    """All cells."""
    with place.registry() as registry, place.registry() as provider:
        provider.publish("echo", [address(number) for number in range(SIZE)])
        crowd = Crowd(LISTENERS)
        told = [crowd.listener() for _ in range(LISTENERS)]
        for one in told:
            registry.subscribe("echo", one)
        registration = provider.publish("echo", address(SIZE))
        weights = iter(range(1, 100_000))
        crowd.complete.wait(10)

        def change() -> list[float]:
            """The moments at which the listeners were done, counted from the change."""
            crowd.clear()
            start = time.perf_counter()
            registration.update(weight=next(weights))
            crowd.complete.wait(10)
            return [one - start for one in crowd.done]

        def loop() -> list[float]:
            crowd.clear()
            view = msgspec.structs.replace(crowd.change)
            start = time.perf_counter()
            for one in told:
                one(view)
            return [time.perf_counter() - start]

        free = change()
        found = alternate({"ours": lambda: [max(change())], "raw": loop}, rounds * 2)
        free = [moment for _ in range(rounds) for moment in change()]
        asleep = registry.subscribe("echo", lambda _: time.sleep(1), required=True)
        blocked = [moment for _ in range(rounds) for moment in change()]
        asleep.close()
    sides = {name: figures(played) for name, played in found.items()}
    later = rounded((percentile(blocked, 99) - percentile(free, 99)) * 1e3)
    return [
        of_limit("one change to all listeners", ratio(found, "ours", "raw"), "times", 2.0, n=LISTENERS, sides=sides),
        of_limit("later beside a listener that blocks, p99", max(0.0, later), "ms", 10.0, n=LISTENERS),
    ]
