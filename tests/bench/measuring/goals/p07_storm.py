"""P7: ten thousand instances register again after their registry has lost everything.

*Batched*: ten thousand instances of one service. Baseline: the raw client writes the same records in the largest batches that the product takes well (transactions of 500 on
ZooKeeper, all sent at once; of 100 on etcd; pipelines of 500 on Redis). Ours: one `Registry.publish`, whose checks of each address are in the time. Limit: 1.25 times,
which is 0.8 of the throughput. The CPU is that of the whole round, in which all of it is taken away
again as well: the raw client deletes, ours marks each record as leaving first. *One by one*: the raw client writes each record and waits, a thousand times; ours has to be ten times as fast.
*Storm*: the server is killed and comes back empty; from the moment in which it answers until all of one Registry's instances are there again, looked at by the raw client.
The sessions of a hundred clients and their operations over time are in docs/explanation/scale.md, not here.
"""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

from measuring.content import address, metadata
from measuring.places import SERVERS, Place
from measuring.raw.client import raw_client
from measuring.report import Cell, of_limit
from measuring.rounds import Batches, Figures, alternate, figures, ratio, rounded

GOAL = "P7"
TITLE = "Restart storm"
BACKENDS = SERVERS
SIZE = 10_000
SERIAL = 1_000
WITHIN = {"zookeeper": 3.0, "etcd": 2.0, "redis": 1.0}


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""
    return [*_throughput(place, rounds), _storm(place)]


def _throughput(place: Place, rounds: int) -> list[Cell]:
    addresses, spaces = [address(number) for number in range(SIZE)], itertools.count()
    with raw_client(place) as raw:
        records = [raw.prepared(number) for number in range(SIZE)]

        def ours() -> list[float]:
            with place.registry(namespace=f"storm-{next(spaces)}") as registry:
                registry.publish("warm", "127.0.0.1:1")
                start = time.perf_counter()
                registry.publish("echo", addresses, protocol="bolt", metadata=metadata(1), timeout=60)
                return Batches([(time.perf_counter() - start) / SIZE], SIZE)

        def batched() -> list[float]:
            raw.clear()
            start = time.perf_counter()
            raw.write_all(records)
            return Batches([(time.perf_counter() - start) / SIZE], SIZE)

        def one_by_one() -> list[float]:
            raw.clear()
            start = time.perf_counter()
            for one in records[:SERIAL]:
                raw.publish(one)
            return Batches([(time.perf_counter() - start) / SERIAL], SERIAL)

        found = alternate({"ours": ours, "raw": batched, "one by one": one_by_one}, rounds)
        raw.clear()
    return _cells(found)


def _cells(found: Any) -> list[Cell]:
    sides = {name: figures(played) for name, played in found.items()}
    ratios = {"ours / raw, CPU": ratio(found, "ours", "raw", cpu=True)}
    against = ratio(found, "ours", "raw")
    naive = ratio(found, "ours", "one by one")
    return [
        of_limit("time an instance, against batched", against, "times", 1.25, n=SIZE, sides=sides, ratios=ratios),
        of_limit("time an instance, against one by one", naive, "times", 0.1, n=SIZE),
    ]


def _storm(place: Place) -> Cell:
    """Three storms: each starts a server anew."""
    took = []
    with place.registry(namespace="storm") as registry:
        registry.publish("echo", [address(number) for number in range(SIZE)], metadata=metadata(1), timeout=60)
        for _ in range(3):
            place.service.wipe()
            start = time.perf_counter()
            with raw_client(place) as raw:
                while (seen := raw.count("storm", "echo")) < SIZE:
                    if time.perf_counter() - start > 60:
                        message = f"{seen} of {SIZE} instances after a minute"
                        raise TimeoutError(message)
                    time.sleep(0.01)
            took.append(time.perf_counter() - start)
            time.sleep(1)
    seconds, limit = rounded(statistics.median(took)), WITHIN[place.backend]
    sides = {"ours": Figures(rounded(seconds * 1e6), rounded(max(took) * 1e6), samples=len(took))}
    return of_limit("server up to all there again", seconds, "s", limit, n=SIZE, sides=sides)
