"""Rows of what applications do to themselves and to each other."""

from __future__ import annotations

import time

from matrix.cell import Cell, listed
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.model.events import SnapshotFailed
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.faults.clocks import JumpingClock

ECHO = ServiceKey("matrix.Echo")
HOUR = 3600.0


@row(
    11,
    "everybody publishes again at once: twenty clients with fifty instances each, after the server lost everything",
    *("I1", "I2", "I3", "I4", "I7"),
    needs=("wipe",),
)
def mass_restart(cell: Cell) -> None:
    clients = [cell.registry(f"mass {number}") for number in range(20)]
    reader, consumer = cell.direct(), cell.registry("consumer")
    for number, client in enumerate(clients):
        client.publish(ECHO, [f"10.{number}.0.{index + 1}:1" for index in range(50)], timeout=20.0)
    ledger = cell.follow(consumer, ECHO)
    cell.within("I2", "the consumer sees all of them", lambda: len(ledger.replica) == 1000, 20.0)
    cell.site.wipe()
    cell.within("I1", "all of them are in the registry again", lambda: len(listed(reader, ECHO) or ()) == 1000, 30.0)
    cell.within(
        "I2",
        "the view equals the registry",
        lambda: set(ledger.replica.values()) == set((listed(reader, ECHO) or {}).values()),
        5.0,
    )
    cell.judge.expect("I3", "the view was empty", holds=ledger.view is not None and len(ledger.view) == 1000)


@row(
    12,
    "wall clocks jump by an hour, forward and back",
    *("I1", "I2", "I3", "I6", "I7"),
)
def clock_jumps(cell: Cell) -> None:
    clock = JumpingClock()
    with Scene(cell) as scene:
        provider = cell.registry("jumper", clock=clock)
        scene.registrations.append(provider.publish(scene.first, "10.8.0.1:1", timeout=10.0))
        consumer = cell.registry("jumping consumer", clock=clock)
        scene.ledgers.append(cell.follow(consumer, scene.first, "the one whose clock jumps"))
        scene.settled("before", cell.told)
        scene.guard()
        for hours in (1, -2, 1):
            clock.jump(hours * HOUR)
            cell.stays("I1", "nothing is lost", scene.complete, min(cell.lease, 3.0) * 1.2)
            scene.settled(f"after {hours:+} h", cell.told)
        scene.flows(7)


@row(
    22,
    "a provider is closed as it should be",
    *("I2", "I3", "I5", "I7", "I11", "I12"),
    gate=("nacos",),
)
def closed(cell: Cell) -> None:
    with Scene(cell) as scene:
        scene.guard()
        ledger, leaver = scene.ledgers[0], cell.registry("leaver")
        leaver.publish(scene.first, "10.8.0.1:1", timeout=10.0)
        cell.within("I2", "the consumer sees it", lambda: "10.8.0.1:1" in ledger.replica, cell.told)
        began = time.monotonic()
        leaver.close()
        cell.took("I11", "close ends", time.monotonic() - began, 2.0)
        cell.within(
            "I11",
            "its record is gone",
            lambda: "10.8.0.1:1" not in (listed(scene.reader, scene.first) or {"10.8.0.1:1"}),
            0.5 + cell.capabilities.visible_within,
        )
        cell.within("I5", "no view has it", lambda: "10.8.0.1:1" not in ledger.replica, 1.0)
        cell.stays("I12", "it stays gone", lambda: "10.8.0.1:1" not in (listed(scene.reader, scene.first) or ()), 1.0)
        scene.settled("after that", cell.told)


@row(
    23,
    "an instance comes and goes, five times a second, in a service of two hundred",
    *("I2", "I3", "I7"),
)
def flapping(cell: Cell) -> None:
    with Scene(cell, services=1, each=200) as scene:
        scene.guard()
        flapper = cell.registry("flapper")
        for number in range(15):
            registration = flapper.publish(scene.first, "10.8.0.1:1", weight=number + 1, timeout=5.0)
            time.sleep(0.1)
            if number < 14:
                registration.unpublish(timeout=5.0)
        scene.registrations.append(registration)
        scene.settled("after the last of it", cell.told)


@row(
    26,
    "listeners that raise, block, call back and unsubscribe themselves",
    *("I2", "I3", "I7", "I8", "I10"),
)
def listeners(cell: Cell) -> None:
    with Scene(cell, services=1) as scene:
        consumer, service = scene.consumer, scene.first
        for listener in (_raise, _block, _CallsBack(consumer), _Unsubscribes(consumer, service)):
            consumer.subscribe(service, listener)
        for weight in range(101, 111):
            began = time.monotonic()
            scene.registrations[0].update(weight=weight, timeout=5.0)
            cell.took("I10", "an update ends", time.monotonic() - began, 5.0)
            cell.figures.pop()
        scene.settled("for the others", cell.told)
        cell.judge.look("I8")


def _raise(_: InstancesChange) -> None:
    raise ValueError("as it should")


def _block(_: InstancesChange) -> None:
    time.sleep(0.5)


class _CallsBack:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, change: InstancesChange) -> None:
        self._registry.lookup(change.service)
        self._registry.lookup("another", timeout=1.0)


class _Unsubscribes:
    def __init__(self, registry: Registry, service: ServiceKey) -> None:
        self.place = registry.subscribe(service, lambda _: None)

    def __call__(self, _: InstancesChange) -> None:
        self.place.close()


@row(
    9,
    "the folder of the disk snapshots cannot be used any more, and then holds half a file",
    *("I2", "I3", "I7", "I8"),
    gate=("local",),
)
def disk(cell: Cell) -> None:
    folder = cell.folder / "snapshot"
    failed: list[SnapshotFailed] = []
    with Scene(cell, services=1, snapshot=str(folder)) as scene:
        scene.consumer.events.on(SnapshotFailed, failed.append)
        eventually(lambda: list(folder.rglob("*.*")), 10.0, "there is a snapshot")
        folder.rename(cell.folder / "kept")
        folder.write_text("no folder")
        scene.flows(7)
        cell.within("I8", "the failure is told", lambda: failed, 10.0)
        scene.flows(8)
    kept = cell.folder / "kept"
    for file in (one for one in kept.rglob("*.*") if one.is_file()):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    torn = cell.registry("another consumer", snapshot=str(kept))
    ledger = cell.follow(torn, scene.first, "the one with half a file")
    cell.within(
        "I2",
        "a start with half a file sees all",
        lambda: set(ledger.replica) == set(scene.ledgers[0].replica),
        cell.told,
    )
