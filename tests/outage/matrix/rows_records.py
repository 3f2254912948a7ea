"""Rows of what happens to records: deleted, overwritten, too large, and what nobody could be told of."""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections.abc import Iterator
from functools import partial

from matrix.cell import Cell
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.model.events import BackendLost
from sofa_registry_adapters.testing.contract.breaking import StoreFaults

NOT_A_STORE = {
    "nacos": "an instance belongs to the connection that registered it: nobody else deletes or overwrites it"
}
FUZZED = 200
LARGE = 1_000_000


@contextlib.contextmanager
def _vandal(cell: Cell) -> Iterator[StoreFaults]:
    faults = StoreFaults(cell.site.url, cell.options)
    try:
        yield faults
    finally:
        faults.close()


@row(
    4,
    "records are deleted by somebody who does not own them",
    *("I1", "I2", "I3", "I7"),
    absent=NOT_A_STORE,
    gate=("etcd",),
)
def deleted_behind(cell: Cell) -> None:
    with Scene(cell) as scene, _vandal(cell) as vandal:
        for registration in scene.registrations[:3]:
            for one in registration.instances[:1]:
                vandal.delete_behind(registration.service, one.instance_id)
        scene.settled("after that", cell.capabilities.detects_loss_within + cell.back)
        scene.flows(7)


@row(
    10,
    "six of ten records of each service are deleted",
    *("I1", "I2", "I3", "I7"),
    part="most",
    absent=NOT_A_STORE,
)
def most_deleted(cell: Cell) -> None:
    with Scene(cell, services=3, each=10) as scene, _vandal(cell) as vandal:
        for registration in scene.registrations:
            for one in registration.instances[:6]:
                vandal.delete_behind(registration.service, one.instance_id)
        scene.settled("after that", cell.capabilities.detects_loss_within + cell.back)
        scene.flows(7)


@row(
    13,
    "records that are none, beside live ones and over them",
    *("I1", "I2", "I3", "I7", "I8"),
    absent=NOT_A_STORE,
    gate=("redis",),
)
def corrupt(cell: Cell) -> None:
    draw, warnings = random.Random(13), _Warnings()
    with Scene(cell, services=2) as scene, warnings:
        scene.guard()
        with _vandal(cell) as vandal:
            for _ in range(FUZZED):
                vandal.write_raw(scene.first, "10.66.6.6:6", _nonsense(draw))
            cell.judge.expect("I8", "the reader has all the good ones", holds=scene.complete())
            vandal.delete_behind(scene.first, "10.66.6.6:6")
            over = scene.registrations[0].instances[0].instance_id
            # Of this one nobody can say who is the newer publisher: its own waits until the nonsense is gone.
            scene.ledgers[0].guard -= {over}
            vandal.write_raw(scene.first, over, b"{")
        scene.settled("after nonsense was written over a live record", cell.bounds.silent + cell.back)
        scene.flows(7)
    told = [one for one in warnings.texts if "10.66.6.6:6" in one]
    # One for each that reads: the consumer and, with its own records there, perhaps the provider.
    cell.judge.expect("I8", f"a record was complained of {len(told)} times in a minute", holds=len(told) <= 2)


def _nonsense(draw: random.Random) -> bytes:
    return draw.choice(
        (
            lambda: draw.randbytes(draw.randint(0, 300)),
            lambda: b"[" * draw.randint(1, 20_000),
            lambda: b"9" * draw.randint(1, 6_000),
            lambda: json.dumps(
                {"host": draw.choice((7, None, "a b", "\0")), "port": draw.choice((-1, 10**9, "80", 1.5))}
            ).encode(),
            lambda: b'{"host":"10.0.0.1","port":1,"weight":NaN}',
            lambda: b'{"host":"10.0.0.1","port":1,"metadata":' + b'{"a":' * 500 + b"1" + b"}" * 501,
        )
    )()


class _Warnings(logging.Handler):
    """What the library complained of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def __enter__(self) -> None:
        logging.getLogger("sofa_registry_adapters").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("sofa_registry_adapters").removeHandler(self)


@row(14, "a record that is too large", "I1", "I2", "I7", "I10", gate=("zookeeper", "nacos"))
def too_large(cell: Cell) -> None:
    lost: list[BackendLost] = []
    with Scene(cell) as scene:
        scene.provider.events.on(BackendLost, lost.append)
        for size in (70_000, LARGE, 2 * LARGE):
            fields = {"big": "x" * size}
            verb = partial(scene.provider.publish, "big", "10.0.0.1:1", metadata=fields, timeout=1.0)
            error = cell.ends("publish", 1.0, verb)
            assert isinstance(error, InvalidArgument)
            cell.took("I10", f"{size} bytes are refused", cell.figures.pop().seconds, 0.2)
        scene.settled("after that", cell.told)
        scene.flows(7)
    assert not lost, "a refusal costs no connection"


@row(
    24,
    "a consumer is away while instances come and go, and the server forgets how that came about",
    *("I2", "I3", "I6", "I7"),
    needs=("black hole", "compact"),
    gate=("etcd",),
)
def compacted(cell: Cell) -> None:
    with Scene(cell) as scene:
        with cell.hurt("black hole", "consumer"):
            for number in range(100):
                gone = scene.provider.publish(scene.first, f"10.7.0.{number + 1}:1", timeout=5.0)
                gone.unpublish(timeout=5.0) if number % 2 else scene.registrations.append(gone)
            scene.registrations.pop(0).unpublish(timeout=5.0)
            cell.site.compact()
        # All that it had seen of one service is gone, without its having been told.
        scene.settled("after the consumer is back", cell.bounds.heal + cell.bounds.hold)
        scene.flows(7)


@row(
    25,
    "the server ends its clients' connections around each change",
    *("I1", "I2", "I3", "I6", "I7"),
    needs=("hang up",),
    gate=("redis",),
)
def hung_up(cell: Cell) -> None:
    with Scene(cell) as scene:
        scene.guard()
        for weight in range(101, 116):
            cell.site.hang_up()
            scene.change(weight)
        scene.settled("after the last of them", cell.back)
        scene.flows(7)
