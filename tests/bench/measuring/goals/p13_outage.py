"""P13: what an outage of the registry costs those who look up.

*Lookup*: `Registry.lookup` of a watched service of a thousand instances, on two servers: one that answers, and one that was frozen
(SIGSTOP: connections stay open, nobody answers). Limit: 1.05 times, no error. *Start*: a Registry that finds its server dead and 10 000
instances on the disk, from its making to the first view: 150 ms.
"""

from __future__ import annotations

import statistics
import time

from measuring.content import address, metadata
from measuring.goals.p02_lookup import read
from measuring.places import SERVERS, Place, place
from measuring.report import Cell, of_limit
from measuring.rounds import Figures, alternate, batched, figures, ratio, rounded
from sofa_registry_adapters.registry import Registry

GOAL = "P13"
TITLE = "Outage"
BACKENDS = SERVERS
SIZE = 10_000


def measure(where: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""
    return [_lookup(where, rounds), _start(where)]


def _lookup(where: Place, rounds: int) -> Cell:
    with place(where.backend) as other, where.registry() as healthy, other.registry() as cut:
        for registry in (healthy, cut):
            registry.publish("echo", [address(number) for number in range(1_000)])
            registry.subscribe("echo", read)
        other.service.pause()
        time.sleep(12)  # past the time-outs: the views are stale now
        assert cut.lookup("echo").stale
        sides = {
            "ours": batched(lambda: cut.lookup("echo"), 20_000),
            "healthy": batched(lambda: healthy.lookup("echo"), 20_000),
        }
        found = alternate(sides, rounds * 2)
        other.service.resume()
    shown = {name: figures(played) for name, played in found.items()}
    return of_limit("lookup in an outage", ratio(found, "ours", "healthy"), "times", 1.05, n=1_000, sides=shown)


def _start(where: Place) -> Cell:
    options = {"snapshot": str(where.folder / "disk"), "protection_hold": "0"}
    with Registry(where.url, options=options) as registry:
        registry.publish("echo", [address(number) for number in range(SIZE)], metadata=metadata(1), timeout=60)
        with registry.subscribe("echo", lambda _: None):
            time.sleep(2)
        where.service.kill()
    took = []
    for _ in range(7):
        start = time.perf_counter()
        with Registry(where.url, options=options) as registry:
            seen: list[int] = []
            registry.subscribe("echo", lambda change: seen.append(len(change.instances)))  # noqa: B023  called at once
            took.append(time.perf_counter() - start)
            assert seen == [SIZE]
    where.service.start()
    seconds = statistics.median(took)
    sides = {"ours": Figures(rounded(seconds * 1e6), rounded(max(took) * 1e6), samples=len(took))}
    return of_limit("start from the disk, server dead", rounded(seconds * 1e3), "ms", 150.0, n=SIZE, sides=sides)
