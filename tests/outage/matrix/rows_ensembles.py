"""Rows of three servers that are one registry: who leads dies, each is restarted in turn, one is alone or lags behind."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Literal

from matrix.cell import SLACK, Cell
from matrix.places import place
from matrix.rows_server import _verbs_end
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services.ensembles import Ensemble, Member, ensemble
from sofa_registry_adapters.testing.sites import EnsembleSite

THREE = "three servers"
ALONE = {
    "local": "a file has no servers",
    "redis": "sets of Redis servers have rows of their own",
    "nacos": "not played: the kit starts single servers of Nacos, not a cluster",
}
ROUNDS = 3
UNSENT = 800
"""Changes, of which an etcd leader has at most 512 under way to one follower."""
LAG = 2.0
"""Seconds by which a follower is behind: a ZooKeeper server that lags for longer is none any more."""


@place(THREE, "zookeeper")
def _zookeeper() -> Site:
    return EnsembleSite(ensemble("zookeeper"))


@place(THREE, "etcd")
def _etcd() -> Site:
    return EnsembleSite(ensemble("etcd"))


def _members(cell: Cell) -> tuple[EnsembleSite, Ensemble]:
    assert isinstance(cell.site, EnsembleSite)
    return cell.site, cell.site.ensemble


def _pin(cell: Cell, scene: Scene, client: str, *members: Member) -> None:
    """The client is connected to one of these when this returns."""
    site, _ = _members(cell)
    site.reach(client, members)
    eventually(lambda: scene.live() and scene.complete() and scene.agreed(), cell.bounds.heal + SLACK, "it moved")


@row(
    17,
    "the leader of three is killed",
    *("I1", "I2", "I3", "I4", "I6", "I7"),
    part="killed",
    place=THREE,
    absent=ALONE,
    gate=("etcd",),
)
def leader_killed(cell: Cell) -> None:
    _leader_fails(cell, "kill")


@row(
    17,
    "the leader of three hangs",
    *("I1", "I2", "I3", "I4", "I6", "I7"),
    part="frozen",
    place=THREE,
    absent=ALONE,
)
def leader_frozen(cell: Cell) -> None:
    _leader_fails(cell, "pause")


def _leader_fails(cell: Cell, verb: Literal["kill", "pause"]) -> None:
    site, members = _members(cell)
    with Scene(cell) as scene:
        scene.guard()
        for weight in (101, 102):
            leader = members.led()
            # The one who writes is connected to whom it happens.
            _pin(cell, scene, "provider", leader)
            site.reach("provider", members.members)
            began = time.monotonic()
            leader.kill() if verb == "kill" else leader.pause()
            members.led(by_another_than=leader)
            election = time.monotonic() - began
            eventually(lambda: _writes(scene, weight), 30.0, "something can be written")  # noqa: B023
            taken = time.monotonic() - began
            # Who hangs has to be found out, too.
            silence = cell.lease + cell.exchange if verb == "pause" else 0.0
            cell.took("I1", "the others have a leader", election, 30.0)
            cell.took("I1", "a write succeeds after the failure", taken, 2 * election + silence + SLACK)
            scene.settled("with two of three", cell.bounds.heal)
            members.make_whole()
            scene.settled("with all three again", cell.back)
        scene.flows(7)


def _writes(scene: Scene, weight: int) -> bool:
    try:
        scene.registrations[0].update(weight=weight, timeout=0.5)
    except RegistryError:
        return False
    return True


@row(
    17,
    "clients reach only a follower that has lost the others",
    *("I1", "I2", "I3", "I5", "I6", "I7", "I10"),
    part="minority",
    place=THREE,
    absent=ALONE,
)
def minority(cell: Cell) -> None:
    _, members = _members(cell)
    with Scene(cell) as scene:
        leader = members.led()
        lonely = next(one for one in members.members if one is not leader)
        for client in ("provider", "consumer"):
            _pin(cell, scene, client, lonely)
        with members.alone(lonely):
            # A follower of ZooKeeper believes in its leader for as long as it may lag.
            cell.within("I5", "views say that they are stale", scene.stale, cell.bounds.stale + LAG + SLACK)
            _verbs_end(cell, scene)
            time.sleep(cell.lease * 0.5)
        scene.settled("when it has found the others", cell.bounds.heal + LAG)
        scene.flows(7)


@row(
    18,
    "each of three servers in turn is stopped and started, while providers change, three times over",
    *("I1", "I2", "I3", "I4", "I6", "I7", "I9"),
    place=THREE,
    absent=ALONE,
)
def rolling(cell: Cell) -> None:
    _, members = _members(cell)
    with Scene(cell) as scene, cell.no_leaks():
        scene.guard()
        with _changing(scene):
            for _ in range(ROUNDS):
                for member in members.members:
                    member.stop()
                    time.sleep(0.3)
                    member.start()
                    members.await_whole()
        scene.settled("after the last of them", cell.back)
        scene.flows(7)


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
    "a consumer moves to a follower that lags behind what it has seen",
    *("I1", "I2", "I3", "I4", "I6", "I7"),
    place=THREE,
    absent=ALONE,
)
def lagging(cell: Cell) -> None:
    site, members = _members(cell)
    with Scene(cell) as scene:
        scene.guard()
        leader = members.led()
        late = next(one for one in members.members if one is not leader)
        others = [one for one in members.members if one is not late]
        for client in ("provider", "consumer"):
            _pin(cell, scene, client, *others)
        with _behind(members, late):
            scene.flows(777)
            site.reach("consumer", [late])
            cell.stays("I6", "its views show the newest", lambda: _newest(scene, 777), LAG)
        scene.settled("when it has caught up", cell.bounds.heal)
        cell.judge.expect("I6", "a view went back", holds=_newest(scene, 777))
        scene.flows(7)


@contextlib.contextmanager
def _behind(members: Ensemble, late: Member) -> Iterator[None]:
    """What happens meanwhile does not reach this member, which goes on serving as far as it can."""
    if members.partitions:
        with members.cut_off(late):
            yield
        return
    late.pause()
    try:
        yield
    finally:
        late.resume()


def _newest(scene: Scene, weight: int) -> bool:
    return all(one.weight == weight for service in scene.services for one in scene.consumer.lookup(service))


@row(
    29,
    "a consumer moves to a follower that has missed the newest changes, and has nobody left to ask for them",
    *("I1", "I2", "I3", "I4", "I6", "I7"),
    part="alone",
    place=THREE,
    absent={**ALONE, "zookeeper": "a server without a majority answers nobody: 17-minority"},
)
def lagging_alone(cell: Cell) -> None:
    site, members = _members(cell)
    with Scene(cell) as scene, contextlib.ExitStack() as ending:
        scene.guard()
        leader = members.led()
        late = next(one for one in members.members if one is not leader)
        others = [one for one in members.members if one is not late]
        for client in ("provider", "consumer"):
            _pin(cell, scene, client, *others)
        ending.callback(members.make_whole)
        late.pause()
        # More than a leader sends to one who does not confirm, which would be read when it goes on.
        for number in range(UNSENT // len(scene.services)):
            scene.change(200 + number)
        scene.flows(777)
        for one in others:
            one.pause()
        late.resume()
        site.reach("consumer", [late])
        cell.stays("I6", "its views show the newest", lambda: _newest(scene, 777), LAG)
        members.make_whole()
        scene.settled("when all are there again", cell.bounds.heal)
        scene.flows(7)
