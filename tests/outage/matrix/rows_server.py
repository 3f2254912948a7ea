"""Rows of what happens to the server of all."""

from __future__ import annotations

import time

from matrix.cell import SLACK, Cell, listed
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.model.names import ServiceKey

ECHO = ServiceKey("matrix.Echo")
MINE = "10.0.0.1:1"
SHORT = 0.4
"""The time-out of a verb that is expected to run into it, in seconds."""


@row(
    1,
    "the server is killed, and started on what it has on disk: down for a moment, and for longer than a lease",
    *("I1", "I2", "I3", "I4", "I6", "I7"),
    needs=("kill",),
    gate=("zookeeper",),
)
def restart(cell: Cell) -> None:
    with Scene(cell, services=10, each=5) as scene:
        for down in (0.3, min(cell.lease * 1.2, 5.0)):
            with cell.hurt("kill"):
                time.sleep(down)
            scene.settled(f"after {down:g} s without a server", cell.back)
        scene.flows(7)


@row(1, "the server is stopped and started", "I1", "I2", "I3", "I6", "I7", part="graceful", needs=("restart",))
def graceful_restart(cell: Cell) -> None:
    with Scene(cell, services=10, each=5) as scene:
        with cell.hurt("restart"):
            time.sleep(0.3)
        scene.settled("after a restart", cell.back)
        scene.flows(7)


@row(
    2,
    "every session, or lease, is over, five times in a row",
    *("I1", "I2", "I7", "I9"),
    needs=("expire",),
    gate=("zookeeper",),
)
def expired(cell: Cell) -> None:
    with Scene(cell) as scene, cell.no_leaks():
        for number in range(5):
            cell.site.expire()
            scene.settled(f"after its end number {number + 1}", cell.back)
        scene.flows(7)


@row(
    6,
    "the server hangs: connections stay open, nobody answers",
    *("I1", "I2", "I3", "I5", "I7", "I10"),
    part="frozen",
    needs=("pause",),
    absent={"local": "a file that another process has locked can be read all the same"},
    gate=("etcd",),
)
def frozen(cell: Cell) -> None:
    with Scene(cell) as scene:
        with cell.hurt("pause"):
            _verbs_end(cell, scene)
            cell.within("I5", "views say that they are stale", scene.stale, cell.bounds.stale)
        scene.settled("after the server went on", cell.bounds.heal)
        scene.flows(7)


@row(
    6,
    "another process has the file locked",
    *("I1", "I2", "I3", "I7", "I10"),
    part="locked",
    needs=("pause",),
    absent=dict.fromkeys(("redis", "zookeeper", "etcd", "nacos"), "there is no file"),
    gate=("local",),
)
def locked(cell: Cell) -> None:
    with Scene(cell) as scene:
        with cell.hurt("pause"):
            error = cell.ends("publish", SHORT, lambda: scene.provider.publish("late", MINE, timeout=SHORT))
            assert isinstance(error, Unavailable)
            assert cell.ends("lookup", SHORT, lambda: scene.reader.lookup(scene.first, timeout=SHORT)) is None
        scene.settled("after the lock", cell.bounds.heal)
        scene.flows(7)


def _verbs_end(cell: Cell, scene: Scene) -> None:
    """Whoever asks the registry for anything has an answer in time: no."""
    provider = scene.provider
    for name, verb in {
        "lookup": lambda: provider.lookup("unwatched", timeout=SHORT),
        "services": lambda: provider.services(timeout=SHORT),
        "publish": lambda: provider.publish("late", MINE, timeout=SHORT),
        "subscribe": lambda: provider.subscribe("late", lambda _: None, timeout=SHORT),
        "update": lambda: scene.registrations[0].update(weight=3, timeout=SHORT),
    }.items():
        assert isinstance(cell.ends(name, SHORT, verb), Unavailable), name


@row(
    10,
    "the server comes back without any data",
    *("I1", "I2", "I3", "I4", "I6", "I7"),
    part="wiped",
    needs=("wipe",),
    gate=("local", "zookeeper"),
)
def wiped(cell: Cell) -> None:
    with Scene(cell) as scene:
        for number in (1, 2):
            scene.guard()
            cell.site.wipe()
            scene.settled(f"after its loss number {number}", cell.back)
        scene.flows(7)


@row(
    10,
    "an operator deletes everything; connections and leases stay",
    *("I1", "I2", "I3", "I4", "I6", "I7"),
    part="deleted",
    needs=("forget",),
    gate=("redis",),
)
def deleted(cell: Cell) -> None:
    with Scene(cell) as scene:
        for number in (1, 2):
            # Some products lose one record after the other, and so a view may follow.
            cell.site.forget()
            scene.settled(f"after its loss number {number}", cell.capabilities.detects_loss_within + cell.back)
        scene.flows(7)


@row(
    20,
    "a consumer starts while the registry is down; where it was before there is a snapshot on its disk",
    *("I1", "I2", "I3", "I10"),
    needs=("kill",),
    gate=("redis",),
)
def start_without(cell: Cell) -> None:
    publisher = cell.registry("provider")
    publisher.publish(ECHO, [MINE, "10.0.0.2:1"], timeout=10.0)
    folder = str(cell.folder / "snapshot")
    before = cell.registry("consumer", snapshot=folder)
    ledger = cell.follow(before, ECHO, "the one before")
    cell.within("I2", "both are seen", lambda: ledger.view is not None and len(ledger.view) == 2, 10.0)
    before.close()
    with cell.hurt("kill"):
        stranger = cell.registry("stranger")
        error = cell.ends("subscribe", SHORT, lambda: stranger.subscribe(ECHO, lambda _: None, timeout=SHORT))
        assert isinstance(error, Unavailable)
        known = cell.registry("consumer", snapshot=folder)
        assert cell.ends("subscribe", 5.0, lambda: cell.follow(known, ECHO, "the one who was there")) is None
        view = known.lookup(ECHO)
        cell.judge.expect("I3", "the view from the disk is not there", holds=len(view) == 2)
        assert view.stale
        assert view.age > 0
    reader = cell.direct()
    cell.within("I1", "both are in the registry again", lambda: len(listed(reader, ECHO) or ()) == 2, cell.back)
    cell.within("I2", "the view is fresh", lambda: not known.lookup(ECHO).stale, cell.back)
    cell.within(
        "I2",
        "and equals the registry",
        lambda: set(known.lookup(ECHO)) == set((listed(reader, ECHO) or {}).values()),
        cell.back,
    )


@row(
    30,
    "an unregister races with the loss and the return of the server, five times",
    *("I1", "I10", "I12"),
    needs=("kill",),
    gate=("redis",),
)
def unregister_races(cell: Cell) -> None:
    publisher, reader = cell.registry("provider"), cell.direct()
    staying = publisher.publish("staying", MINE, timeout=10.0)
    for number in range(5):
        registration = publisher.publish(ECHO, MINE, timeout=10.0)
        with cell.hurt("kill"):
            time.sleep(number * 0.1)
            cell.ends("unpublish", SHORT, lambda: registration.unpublish(timeout=SHORT))  # noqa: B023
        assert registration.state == "withdrawn"
        cell.within("I12", f"it is gone, attempt {number + 1}", lambda: listed(reader, ECHO) == {}, cell.bounds.silent)
        cell.stays("I12", "it stays gone", lambda: listed(reader, ECHO) == {}, 0.5)
        cell.within(
            "I1",
            "what was not withdrawn is there",
            lambda: set(listed(reader, ServiceKey("staying")) or ()) == {MINE},
            cell.back,
        )
        cell.within("I1", "and says so", lambda: staying.state == "live", cell.back)


@row(
    30,
    "an unregister races with the publishing anew after a loss of everything, five times",
    *("I1", "I12"),
    part="recovery",
    needs=("forget",),
    gate=("zookeeper",),
)
def unregister_races_recovery(cell: Cell) -> None:
    publisher, reader = cell.registry("provider"), cell.direct()
    staying = publisher.publish("staying", MINE, timeout=10.0)
    for number in range(5):
        registration = publisher.publish(ECHO, [f"10.0.0.{index + 1}:1" for index in range(20)], timeout=10.0)
        cell.site.forget()
        time.sleep(number * 0.2)
        try:
            registration.unpublish(timeout=5.0)
        except RegistryError:
            assert registration.state == "withdrawn"
        cell.within("I12", f"it is gone, attempt {number + 1}", lambda: listed(reader, ECHO) == {}, cell.back + SLACK)
        cell.stays("I12", "it stays gone", lambda: listed(reader, ECHO) == {}, 0.5)
    cell.within(
        "I1",
        "what was not withdrawn is there",
        lambda: set(listed(reader, ServiceKey("staying")) or ()) == {MINE},
        cell.back,
    )
    assert staying.state == "live"
