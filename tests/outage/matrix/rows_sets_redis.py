"""Rows of several Redis servers that are one registry: a master dies, hangs, is replaced by one that is behind, is there again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Literal

from matrix.cell import SLACK, Cell
from matrix.places import place
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.redis_sets import (
    ClusterSet,
    RedisSet,
    SentinelSet,
    cluster_set,
    sentinel_set,
)
from sofa_registry_adapters.testing.services.redis_sets.members import ask, told
from sofa_registry_adapters.testing.services.redis_sets.sentinel import NAME
from sofa_registry_adapters.testing.set_sites import RedisSetSite

SENTINELS, CLUSTER = "Redis with Sentinels", "Redis Cluster"
ELSEWHERE = {
    "local": "a file has no servers",
    "zookeeper": "a ZooKeeper ensemble has rows of its own",
    "etcd": "an etcd cluster has rows of its own",
    "nacos": "not played: the kit starts single servers of Nacos, not a cluster",
}
ALL = ("I1", "I2", "I3", "I4", "I6", "I7")
LATE, LEAVING = ServiceKey("matrix.Late"), ServiceKey("matrix.Leaving")
ROUNDS = 2
ELECTED = 30.0


@place(SENTINELS, "redis")
def _sentinels() -> Site:
    return RedisSetSite(sentinel_set())


@place(CLUSTER, "redis")
def _cluster() -> Site:
    return RedisSetSite(cluster_set())


def _set(cell: Cell) -> RedisSet:
    assert isinstance(cell.site, RedisSetSite)
    return cell.site.servers


def _master(servers: RedisSet) -> LocalService:
    """The master, or one of those of a cluster."""
    return servers.writable()[0]


def _followers(servers: RedisSet, master: LocalService) -> Sequence[LocalService]:
    assert isinstance(servers, SentinelSet | ClusterSet)
    return servers.replicas if isinstance(servers, SentinelSet) else servers.replicas_of(master)


def _replaced(servers: RedisSet, master: LocalService) -> bool:
    """Whether somebody else is named where it was."""
    if isinstance(servers, SentinelSet):
        return servers.master is not master
    assert isinstance(servers, ClusterSet)
    named = servers.masters_by(next(one for one in servers.nodes if one is not master))
    return bool(named) and master not in named


@row(
    17,
    "the master is killed, and the Sentinels promote a replica; it comes back without any data",
    *ALL,
    part="sentinel-killed",
    place=SENTINELS,
    absent=ELSEWHERE,
)
def master_killed(cell: Cell) -> None:
    _master_fails(cell, "kill")


@row(
    17,
    "the master hangs, and the Sentinels promote a replica; it goes on and believes that it is the master",
    *ALL,
    part="sentinel-frozen",
    place=SENTINELS,
    absent=ELSEWHERE,
)
def master_frozen(cell: Cell) -> None:
    _master_fails(cell, "pause")


@row(
    17,
    "a master of a cluster is killed, and its replica takes over; it comes back without any data",
    *ALL,
    part="cluster-killed",
    place=CLUSTER,
    absent=ELSEWHERE,
)
def node_killed(cell: Cell) -> None:
    _master_fails(cell, "kill")


@row(
    17,
    "a master of a cluster hangs, and its replica takes over; it goes on",
    *ALL,
    part="cluster-frozen",
    place=CLUSTER,
    absent=ELSEWHERE,
)
def node_frozen(cell: Cell) -> None:
    _master_fails(cell, "pause")


def _master_fails(cell: Cell, verb: Literal["kill", "pause"]) -> None:
    servers = _set(cell)
    with Scene(cell) as scene:
        scene.guard()
        for number in (1, 2):
            master = _master(servers)
            began = time.monotonic()
            master.kill() if verb == "kill" else master.pause()
            eventually(lambda: _replaced(servers, master), ELECTED, "a replica is promoted")  # noqa: B023
            election = time.monotonic() - began
            eventually(lambda: _writes(scene, 100 + number), ELECTED, "everything can be written")  # noqa: B023
            taken = time.monotonic() - began
            # Who hangs has to be found out, too.
            silence = cell.exchange if verb == "pause" else 0.0
            what = f"everything can be written after failure number {number}; the promotion took {election:.2g} s of it"
            cell.took("I1", what, taken, 2 * election + silence + SLACK)
            scene.settled("with the new master", cell.bounds.heal)
            master.start()
            scene.settled("with the old one there again", cell.back)
            servers.await_whole()
            scene.settled("when it is a replica", cell.back)
        scene.flows(7)


def _writes(scene: Scene, weight: int) -> bool:
    try:
        for registration in scene.registrations:
            registration.update(weight=weight, timeout=0.5)
    except RegistryError:
        return False
    return True


@row(
    17,
    "a replica takes over that lacks what the master confirmed last",
    *ALL,
    "I12",
    part="sentinel-behind",
    place=SENTINELS,
    absent=ELSEWHERE,
)
def replica_behind(cell: Cell) -> None:
    _behind(cell)


@row(
    17,
    "the replica of one master of a cluster takes over, and lacks what that confirmed last",
    *ALL,
    "I12",
    part="cluster-behind",
    place=CLUSTER,
    absent=ELSEWHERE,
    gate=("redis",),
)
def node_behind(cell: Cell) -> None:
    _behind(cell)


def _behind(cell: Cell) -> None:
    servers = _set(cell)
    with Scene(cell) as scene:
        leaving = scene.provider.publish(LEAVING, "10.0.7.1:80", timeout=5.0)
        master = _master(servers)
        with _replicas_behind(servers, master):
            _publish_late(scene)
            leaving.unpublish(timeout=5.0)
            scene.settled("with replicas that are behind", cell.told)
            scene.guard()
            master.kill()
        eventually(lambda: _replaced(servers, master), ELECTED, "a replica is promoted")
        scene.settled("after it took over", cell.back + cell.bounds.heal)
        cell.within("I12", "what was withdrawn is gone", lambda: not scene.reader.lookup(LEAVING), cell.bounds.heal)
        cell.stays("I12", "and stays so", lambda: not scene.reader.lookup(LEAVING), 1.0)
        scene.flows(7)
        servers.start()
        scene.settled("when the set is whole", cell.back)


@contextlib.contextmanager
def _replicas_behind(servers: RedisSet, master: LocalService) -> Iterator[None]:
    """Meanwhile its replicas get nothing; the master confirms writes all the same."""
    replicas = _followers(servers, master)
    for replica in replicas:
        replica.pause()
    # What is in their sockets already would still be read.
    ask(master, "CLIENT", "KILL", "TYPE", "replica")
    try:
        yield
    finally:
        for replica in replicas:
            replica.resume()


def _publish_late(scene: Scene) -> None:
    """One more service, and another weight for all."""
    cell = scene.cell
    scene.services.append(LATE)
    scene.registrations.append(scene.provider.publish(LATE, ["10.0.8.1:80", "10.0.8.2:80"], timeout=5.0))
    scene.ledgers.append(cell.follow(scene.consumer, LATE, "the late one"))
    for registration in scene.registrations:
        registration.update(weight=55, timeout=5.0)


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
    servers = _set(cell)
    assert isinstance(servers, SentinelSet)
    with Scene(cell) as scene, cell.no_leaks():
        scene.guard()
        with _changing(scene):
            for _ in range(ROUNDS):
                for replica in servers.replicas:
                    _restart(servers, replica)
                master = servers.master
                eventually(lambda: _switches(servers), ELECTED, "a Sentinel knows of a replica that is fit")
                eventually(lambda: _replaced(servers, master), ELECTED, "another one is the master")  # noqa: B023
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
    servers = _set(cell)
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
                    eventually(lambda: _replaced(servers, master), ELECTED, "its replica is a master")  # noqa: B023
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


@row(
    29,
    "the replaced master is there again and believes in itself, and so does a Sentinel; clients have to connect anew",
    *ALL,
    part="sentinel",
    place=SENTINELS,
    absent=ELSEWHERE,
)
def old_master(cell: Cell) -> None:
    servers = _set(cell)
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
    servers = _set(cell)
    assert isinstance(servers, ClusterSet)
    with Scene(cell) as scene:
        scene.guard()
        master = _master(servers)
        master.pause()
        eventually(lambda: _replaced(servers, master), ELECTED, "its replica takes over")
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
