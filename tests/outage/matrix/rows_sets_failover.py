"""Rows of several Redis servers that are one registry: a master dies, hangs, is replaced by one that is behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Literal

from matrix.cell import SLACK, Cell
from matrix.redis_set import ALL, CLUSTER, ELECTED, ELSEWHERE, SENTINELS, master_of, replaced, servers_of
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.redis_sets import ClusterSet, RedisSet, SentinelSet
from sofa_registry_adapters.testing.services.redis_sets.members import ask

LATE, LEAVING = ServiceKey("matrix.Late"), ServiceKey("matrix.Leaving")


def _followers(servers: RedisSet, master: LocalService) -> Sequence[LocalService]:
    assert isinstance(servers, SentinelSet | ClusterSet)
    return servers.replicas if isinstance(servers, SentinelSet) else servers.replicas_of(master)


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
    servers = servers_of(cell)
    with Scene(cell) as scene:
        scene.guard()
        for number in (1, 2):
            master = master_of(servers)
            began = time.monotonic()
            master.kill() if verb == "kill" else master.pause()
            eventually(lambda: replaced(servers, master), ELECTED, "a replica is promoted")  # noqa: B023
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
    servers = servers_of(cell)
    with Scene(cell) as scene:
        leaving = scene.provider.publish(LEAVING, "10.0.7.1:80", timeout=5.0)
        master = master_of(servers)
        with _replicas_behind(servers, master):
            _publish_late(scene)
            leaving.unpublish(timeout=5.0)
            scene.settled("with replicas that are behind", cell.told)
            scene.guard()
            master.kill()
        eventually(lambda: replaced(servers, master), ELECTED, "a replica is promoted")
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
