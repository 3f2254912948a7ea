"""P6: all instances of a service of 10 000, read once.

Our store wrote them. Baseline: the raw client reads the same records as bytes: kazoo the children and then each node, all requests sent at once; etcd3's `get_prefix`;
one `HGETALL`; one SELECT; on Nacos one query, its hosts split but not decoded. Ours: `Registry.lookup` of a service that is not watched: decoded, checked instances. Limits: ZooKeeper
0.05 times (for layouts whose child names say it all; the native one has to read the nodes, too), etcd 0.5, Redis 1.2 times.
nacos-sdk-python answers from what it has subscribed to and is no measure here; a group of tooz has names only.
"""

from __future__ import annotations

import contextlib
from typing import Any

from measuring.content import address, metadata
from measuring.places import Place
from measuring.raw.client import raw_client
from measuring.report import Cell, of_limit
from measuring.rounds import alternate, figures, ratio, repeated
from measuring.writer import writer

GOAL = "P6"
TITLE = "Snapshot"
BACKENDS = ("local", "redis", "zookeeper", "etcd", "nacos")
SIZES = (10, 1_000, 10_000)
LIMITS = {"zookeeper": 0.05, "etcd": 0.5, "redis": 1.2}


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""
    with contextlib.ExitStack() as stack:
        sizes = (10, 1_000) if place.backend == "nacos" else SIZES
        if place.backend == "nacos":
            publishing = stack.enter_context(place.registry())
            for size in sizes:
                fields: list[Any] = [(address(number), metadata(number)) for number in range(size)]
                publishing.publish(f"echo-{size}", [one for one, _ in fields], metadata=fields[0][1])
        else:
            author = stack.enter_context(writer(place))
            for size in sizes:
                author.fill(f"echo-{size}", size)
        registry = stack.enter_context(place.registry())
        raw = stack.enter_context(raw_client(place))
        return [_cell(place, size, rounds, (registry, raw)) for size in sizes]


def _cell(place: Place, size: int, rounds: int, parts: Any) -> Cell:
    registry, raw = parts
    name, count = f"echo-{size}", max(1, min(50, 5_000 // size))
    assert len(registry.lookup(name, timeout=30)) == len(raw.snapshot(name)) == size
    sides = {
        "ours": repeated(lambda: registry.lookup(name, timeout=30), count),
        "raw": repeated(lambda: raw.snapshot(name), count),
    }
    found = alternate(sides, rounds)
    shown = {side: figures(played) for side, played in found.items()}
    times = ratio(found, "ours", "raw")
    ratios = {"ours / raw, CPU": ratio(found, "ours", "raw", cpu=True)}
    if size == SIZES[-1] and place.backend in LIMITS:
        return of_limit(
            "snapshot against raw", times, "times", LIMITS[place.backend], n=size, sides=shown, ratios=ratios
        )
    return Cell("snapshot against raw", times, "times", n=size, sides=shown, ratios=ratios)
