"""Rows of several Redis servers that are one registry: a replaced master is there again."""

from __future__ import annotations

from matrix.cell import Cell
from matrix.redis_set import ALL, CLUSTER, ELECTED, ELSEWHERE, SENTINELS, master_of, replaced, servers_of
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.redis_sets import ClusterSet, SentinelSet
from sofa_registry_adapters.testing.services.redis_sets.members import ask, told
from sofa_registry_adapters.testing.services.redis_sets.sentinel import NAME


@row(
    29,
    "the replaced master is there again and believes in itself, and so does a Sentinel; clients have to connect anew",
    *ALL,
    part="sentinel",
    place=SENTINELS,
    absent=ELSEWHERE,
)
def old_master(cell: Cell) -> None:
    servers = servers_of(cell)
    assert isinstance(servers, SentinelSet)
    with Scene(cell) as scene:
        scene.guard()
        master, sentinel, witness = servers.master, servers.sentinels[0], servers.sentinels[1]
        for one in (sentinel, master):
            one.pause()
        eventually(lambda: _named(witness) not in (0, master.port), ELECTED, "a replica is promoted")
        scene.settled("without them", cell.bounds.heal)
        scene.flows(777)
        for one in (master, sentinel):
            one.resume()
        asked = 0
        while told(master, "INFO", "replication").get("role") == "master" and asked < 20:
            # Everybody asks again who the master is.
            _hang_up(servers.node_at(_named(witness)))
            cell.stays("I6", "views show the newest", lambda: _newest(scene, 777), 0.2)
            asked += 1
        assert asked, "the replaced master was told before anybody could ask"
        servers.await_whole()
        scene.settled("when all agree", cell.back)
        scene.flows(7)


@row(
    29,
    "a replica lags behind what consumers have seen, the replaced master of a cluster is there again; clients connect anew",
    *ALL,
    part="cluster",
    place=CLUSTER,
    absent=ELSEWHERE,
)
def old_node(cell: Cell) -> None:
    servers = servers_of(cell)
    assert isinstance(servers, ClusterSet)
    with Scene(cell) as scene:
        scene.guard()
        master = master_of(servers)
        master.pause()
        eventually(lambda: replaced(servers, master), ELECTED, "its replica takes over")
        scene.settled("without it", cell.bounds.heal)
        scene.flows(777)
        master.resume()
        for _ in range(5):
            for node in servers.nodes:
                _hang_up(node)
            cell.stays("I6", "views show the newest", lambda: _newest(scene, 777), 0.2)
        servers.await_whole()
        scene.settled("when all agree", cell.back)
        scene.flows(7)


def _hang_up(node: LocalService) -> None:
    for kind in ("normal", "pubsub"):
        ask(node, "CLIENT", "KILL", "TYPE", kind)


def _named(sentinel: LocalService) -> int:
    """The port of the master, says this Sentinel; 0 if it says nothing."""
    try:
        answer = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
    except OSError:
        return 0
    assert isinstance(answer, list)
    return int(answer[1])


def _newest(scene: Scene, weight: int) -> bool:
    return all(one.weight == weight for service in scene.services for one in scene.consumer.lookup(service))
