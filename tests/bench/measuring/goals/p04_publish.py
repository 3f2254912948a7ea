"""P4: publish one instance, until the registry has confirmed it.

Baseline: the raw client writes one record of the same size and with a lifetime, acknowledged, on the same server: kazoo's `create` of an ephemeral
node, etcd3's `put` with a lease, on Redis value, index and message in one pipeline, on Nacos the bare request, in SQLite one transaction in the same
mode, in memory an entry in a dictionary. Ours: `Registry.publish` of one more instance of one of 64 services that others are in, which does more on some: a condition against taking over
another publisher's record, a log of changes, a watch that notices its loss. *hop* is what it takes a coroutine that does nothing
to go to the engine's thread and back. Limits: p50 up to 1.05 raw and one hop, of which 150 µs count at most; p99 up to 1.15 raw and the hop.
Peer: `join_group` of tooz; on Nacos `register_instance` of nacos-sdk-python. The last rows: one more instance while so many others are held.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from measuring import peers
from measuring.content import address, metadata
from measuring.places import BACKENDS as ALL
from measuring.places import Place
from measuring.raw.client import raw_client
from measuring.report import Cell
from measuring.rounds import Side, alternate, figures, percentile, ratio, repeated, rounded, used
from sofa_registry_adapters.registry import Registry

GOAL = "P4"
TITLE = "Publish"
BACKENDS = ALL
COUNTS = {"memory": 300, "local": 300, "redis": 300, "zookeeper": 150, "etcd": 150, "nacos": 100}
HELD = (10, 1_000, 10_000)
SERVICES = 64
HOP = 150e-6
"""Seconds of a hop that count at most."""


async def nothing() -> None:
    """The least that the engine's thread can do."""


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""
    numbers = itertools.count(SERVICES)
    count = COUNTS[place.backend]
    with raw_client(place) as raw, contextlib.ExitStack() as stack:

        def publish_raw() -> list[float]:
            raw.clear()
            ready = iter([raw.prepared(next(numbers)) for _ in range(count)])
            return repeated(lambda: raw.publish(next(ready)), count)()

        sides: dict[str, Callable[[], Any]] = {"ours": lambda: publish_ours(place, numbers, count), "raw": publish_raw}
        hopping = stack.enter_context(place.registry())
        if place.backend != "nacos":
            for number in range(SERVICES):
                publish(hopping, number)
        session = hopping._opened()
        sides["hop"] = repeated(lambda: session.run(nothing(), 5), count)
        if (peer := stack.enter_context(peers.publisher(place))) is not None:
            sides[peer.name] = lambda: peer.publish(40)
        found = alternate(sides, rounds)
    return [*_cells(found), *_beside_others(place, rounds)]


def publish_ours(place: Place, numbers: Iterator[int], count: int) -> list[float]:
    """One round, by a Registry of its own: what it published ends with it."""
    with place.registry() as registry:
        publish(registry, next(numbers))
        return repeated(lambda: publish(registry, next(numbers)), count)()


def publish(registry: Registry, number: int) -> None:
    """One instance, as the raw client writes it, of one of several services. On Nacos a service is written as a whole: each has one of its own there."""
    nacos = registry.target.scheme.startswith("nacos")
    service = f"echo-{number}" if nacos else f"echo-{number % SERVICES}"
    registry.publish(service, address(number), protocol="bolt", zone=f"zone-{number % 3}", metadata=metadata(number))


def _cells(found: Any) -> list[Cell]:
    sides = {name: figures(played) for name, played in found.items()}
    hops = [min(statistics.median(played.wall), HOP) for played in found["hop"]]
    ratios = {f"ours / {name}": ratio(found, "ours", name) for name in found if name not in {"ours", "hop"}}
    ratios["ours / raw, CPU"] = ratio(found, "ours", "raw", cpu=True)
    hop = statistics.median(hops) * 1e6
    half = used(found, "ours", lambda number: 1.05 * statistics.median(found["raw"][number].wall) + hops[number])
    limit = rounded(1.05 * sides["raw"].p50 + hop)
    cells = [Cell("publish, p50", sides["ours"].p50, "µs", limit, half, sides=sides, ratios=ratios)]
    late = rounded(1.15 * sides["raw"].p99 + hop)
    worst = used(found, "ours", lambda number: 1.15 * percentile(found["raw"][number].wall, 99) + hops[number], 99)
    cells.append(Cell("publish, p99", sides["ours"].p99, "µs", late, worst))
    return cells


def _beside_others(place: Place, rounds: int) -> list[Cell]:
    """What it costs to hold others already: of the same service, and of services of their own."""
    if place.backend not in {"memory", "redis"}:
        return []
    with contextlib.ExitStack() as stack:
        same: dict[str, Side] = {}
        for held in HELD:
            registry = stack.enter_context(place.registry(namespace=f"held-{held}"))
            registry.publish("echo", [address(number) for number in range(held)], timeout=60)
            same[f"{held}"] = _one_more(registry, lambda _: "echo")
        services: dict[str, Side] = {}
        for held in HELD[:2]:
            registry = stack.enter_context(place.registry(namespace=f"services-{held}"))
            for number in range(held):
                registry.publish(f"echo-{number}", address(number))
            services[f"{held}"] = _one_more(registry, lambda number: f"echo-{number}")
        return [
            _growth("publish beside 10 000 others of the service, against 10", same, HELD[-1], rounds),
            _growth("publish beside 1 000 other services, against 10", services, HELD[1], rounds),
        ]


def _one_more(registry: Registry, service: Callable[[int], str]) -> Side:
    numbers = itertools.count(1 << 20)

    def publish_one() -> None:
        number = next(numbers)
        registry.publish(service(number), address(number))

    return repeated(publish_one, 20)


def _growth(what: str, sides: dict[str, Side], most: int, rounds: int) -> Cell:
    found = alternate(sides, rounds)
    shown = {name: figures(played) for name, played in found.items()}
    return Cell(what, ratio(found, f"{most}", "10"), "times", n=most, sides=shown)
