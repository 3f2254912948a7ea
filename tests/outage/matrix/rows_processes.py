"""Rows of what happens to the processes of applications."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from matrix.cell import Cell, listed
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.faults import eventually

ECHO = ServiceKey("matrix.Echo")
MINE = "10.0.9.1:1"
START = 30.0
CONSUMER = Path(__file__).parent / "consuming.py"
EVERYWHERE = ("local", "redis", "zookeeper", "etcd", "nacos")


def _who(cell_listed: object) -> str:
    return "" if not isinstance(cell_listed, dict) or MINE not in cell_listed else cell_listed[MINE].metadata["who"]


@row(
    3,
    "a provider is killed and starts again at once, while its old record is still there",
    *("I1", "I2", "I4", "I7"),
    gate=("zookeeper",),
)
def restarted_provider(cell: Cell) -> None:
    reader, ledger = cell.direct(), cell.follow(cell.registry("consumer"), ECHO)
    first = cell.child("stay", MINE, ECHO, who="first")
    first.expect("live", START)
    first.kill()
    second = cell.child("stay", MINE, ECHO, who="second")
    second.expect("live", START)
    cell.within("I1", "the second holds the id", lambda: _who(listed(reader, ECHO)) == "second", cell.bounds.silent)
    watch = min(cell.lease * 3, 8.0)
    cell.stays(
        "I1", "it stays, longer than the first one's lease", lambda: _who(listed(reader, ECHO)) == "second", watch
    )
    cell.within("I2", "the consumer sees it", lambda: _who(ledger.replica) == "second", cell.told + cell.bounds.hold)


@row(
    8,
    "a provider is stopped for longer than its lease, and goes on",
    *("I1", "I2", "I7"),
    part="provider",
    gate=("redis",),
)
def frozen_provider(cell: Cell) -> None:
    with Scene(cell) as scene:
        ledger = scene.ledgers[0]
        child = cell.child("stay", MINE, scene.first, who="child")
        child.expect("live", START)
        cell.within("I2", "the consumer sees it", lambda: MINE in ledger.replica, cell.told)
        stopped = time.monotonic()
        child.stop()
        eventually(
            lambda: MINE not in (listed(scene.reader, scene.first) or {MINE}), cell.bounds.silent, "its record goes"
        )
        time.sleep(max(0.0, stopped + cell.lease * 1.5 - time.monotonic()))
        child.cont()
        # A call that was under way ends first.
        bound = 1.0 + cell.exchange + cell.capabilities.visible_within
        cell.within(
            "I1", "it is in the registry again", lambda: MINE in (listed(scene.reader, scene.first) or ()), bound
        )
        cell.within("I2", "the consumer sees it again", lambda: MINE in ledger.replica, cell.told)
        child.kill()


@row(
    8,
    "a consumer is stopped for longer than a lease while instances come and go, and goes on",
    *("I2", "I7"),
    part="consumer",
    gate=("zookeeper",),
)
def frozen_consumer(cell: Cell) -> None:
    publisher = cell.registry("provider")
    publisher.publish(ECHO, [f"10.0.0.{number}:1" for number in range(1, 6)], timeout=10.0)
    given = json.dumps({"url": cell.site.url_of("child"), "options": cell.options, "service": str(ECHO)})
    child = cell.program([str(CONSUMER), given])
    child.expect("view 5", START)
    child.stop()
    going = publisher.publish(ECHO, "10.0.1.1:1", timeout=10.0)
    publisher.publish(ECHO, ["10.0.2.1:1", "10.0.2.2:1"], timeout=10.0)
    going.unpublish(timeout=10.0)
    time.sleep(min(cell.lease * 1.5, 6.0))
    child.cont()
    began = time.monotonic()
    child.expect("view 7", cell.bounds.heal)
    cell.took("I2", "it sees what came, and not what went", time.monotonic() - began, cell.bounds.heal)
    cell.judge.look("I7")
    assert "contradiction" not in child.output, child.output
    assert "10.0.1.1:1" not in child.output.splitlines()[-1]


@row(
    21,
    "a provider is killed",
    *("I2", "I5", "I7"),
    gate=("redis",),
)
def killed(cell: Cell) -> None:
    with Scene(cell) as scene:
        scene.guard()
        ledger = scene.ledgers[0]
        child = cell.child("stay", MINE, scene.first, who="child")
        child.expect("live", START)
        cell.within("I2", "the consumer sees it", lambda: MINE in ledger.replica, cell.told)
        child.kill()
        cell.within("I5", "it is out of every view", lambda: MINE not in ledger.replica, cell.dead)
        scene.settled("after that", cell.told)


@row(27, "a process forks after it has published", "I1", "I2")
def forked(cell: Cell) -> None:
    assert hasattr(os, "fork")
    survives = cell.capabilities.survives_fork
    for mode in ("fork-exit", "fork-publish"):
        child = cell.child(mode, MINE, ECHO)
        if mode == "fork-publish":
            for words in ("child live", "child gone") if survives else ("child refused",):
                child.expect(words, START)
        child.expect("child ended 0", START)
        child.expect("parent kept", START)
        cell.judge.look("I1")
        child.expect("parent gone", START)
        cell.judge.look("I2")


@row(
    28,
    "two processes publish one id",
    *("I1", "I2", "I4", "I7"),
    gate=("etcd",),
)
def one_id_twice(cell: Cell) -> None:
    reader, ledger = cell.direct(), cell.follow(cell.registry("consumer"), ECHO)
    older = cell.child("stay", MINE, ECHO, who="older")
    older.expect("live", START)
    newer = cell.child("stay", MINE, ECHO, who="newer")
    newer.expect("live", START)
    noticed = cell.capabilities.detects_loss_within + 2.0
    cell.within("I1", "the newer one holds it", lambda: _who(listed(reader, ECHO)) == "newer", noticed)
    older.expect("state conflict", noticed + START)
    cell.within("I2", "the consumer sees the newer one", lambda: _who(ledger.replica) == "newer", cell.told)
    cell.stays("I4", "there is no war", lambda: _who(listed(reader, ECHO)) == "newer", 3.0)
    newer.kill()
    cell.within(
        "I1",
        "the older one takes it when the newer is gone",
        lambda: _who(listed(reader, ECHO)) == "older",
        cell.bounds.mourning,
    )
