"""Rows of several Redis servers that are one registry: all are restarted, one by one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from matrix.cell import Cell
from matrix.redis_set import ALL, CLUSTER, ELECTED, ELSEWHERE, SENTINELS, replaced, servers_of
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.redis_sets import ClusterSet, RedisSet, SentinelSet
from sofa_registry_adapters.testing.services.redis_sets.members import ask
from sofa_registry_adapters.testing.services.redis_sets.sentinel import NAME

ROUNDS = 2


@row(
    18,
    "replicas, then the master after a switch, then the Sentinels are restarted one by one, while providers change; twice",
    *ALL,
    "I9",
    part="sentinel",
    place=SENTINELS,
    absent=ELSEWHERE,
)
def rolling_sentinels(cell: Cell) -> None:
    servers = servers_of(cell)
    assert isinstance(servers, SentinelSet)
    with Scene(cell) as scene, cell.no_leaks():
        scene.guard()
        with _changing(scene):
            for _ in range(ROUNDS):
                for replica in servers.replicas:
                    _restart(servers, replica)
                master = servers.master
                eventually(lambda: _switches(servers), ELECTED, "a Sentinel knows of a replica that is fit")
                eventually(lambda: replaced(servers, master), ELECTED, "another one is the master")  # noqa: B023
                servers.await_whole()
                _restart(servers, master)
                for sentinel in servers.sentinels:
                    _restart(servers, sentinel)
        scene.settled("after the last of them", cell.back)
        scene.flows(7)


@row(
    18,
    "each replica of a cluster, then each master after its replica took over, is restarted, while providers change; twice",
    *ALL,
    "I9",
    part="cluster",
    place=CLUSTER,
    absent=ELSEWHERE,
)
def rolling_cluster(cell: Cell) -> None:
    servers = servers_of(cell)
    assert isinstance(servers, ClusterSet)
    with Scene(cell) as scene, cell.no_leaks():
        scene.guard()
        with _changing(scene):
            for _ in range(ROUNDS):
                masters = servers.writable()
                for replica in [one for one in servers.nodes if one not in masters]:
                    _restart(servers, replica)
                for master in masters:
                    ask(servers.replicas_of(master)[0], "CLUSTER", "FAILOVER")
                    eventually(lambda: replaced(servers, master), ELECTED, "its replica is a master")  # noqa: B023
                    servers.await_whole()
                    _restart(servers, master)
        scene.settled("after the last of them", cell.back)
        scene.flows(7)


def _switches(servers: SentinelSet) -> bool:
    """Whether a Sentinel begins to replace the master; after a restart of all replicas it may take some seconds to know them."""
    try:
        ask(servers.sentinels[0], "SENTINEL", "FAILOVER", NAME)
    except OSError:
        return False
    return True


def _restart(servers: RedisSet, server: LocalService) -> None:
    server.stop()
    time.sleep(0.3)
    server.start()
    servers.await_whole()


@contextlib.contextmanager
def _changing(scene: Scene) -> Iterator[None]:
    """Meanwhile all weights change, all the time."""
    stopped = threading.Event()

    def change() -> None:
        weight = 100
        while not stopped.wait(0.05):
            weight += 1
            scene.change(weight)

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
