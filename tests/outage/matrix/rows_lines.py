"""Rows of what happens to the lines between clients and the server."""

from __future__ import annotations

import contextlib
import random
import statistics
import time

from matrix.cell import Cell
from matrix.rows_server import _verbs_end
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.registry import Registry

PICKS = 2_000


@row(
    5,
    "connections are reset, again and again, while providers change",
    *("I1", "I2", "I3", "I6", "I7", "I9"),
    needs=("cut",),
    gate=("redis", "nacos"),
)
def resets(cell: Cell) -> None:
    draw = random.Random(5)
    with Scene(cell) as scene, cell.no_leaks():
        scene.guard()
        end, weight = time.monotonic() + 6.0, 100
        while time.monotonic() < end:
            cell.site.line(draw.choice(("provider", "consumer"))).cut()
            weight += 1
            scene.change(weight)
            time.sleep(draw.uniform(0.0, 0.4))
        scene.settled("after the last reset", cell.back)
        scene.flows(7)


def _silence(cell: Cell, name: str) -> None:
    with Scene(cell) as scene:
        for ending in ("the lines carry again", "the connections are reset"):
            silent = time.monotonic() + min(cell.lease * 1.3, 4.0)
            with contextlib.ExitStack() as lines:
                for client in ("provider", "consumer"):
                    lines.enter_context(cell.hurt(name, client))
                _verbs_end(cell, scene)
                cell.within("I5", "views say that they are stale", scene.stale, cell.bounds.stale)
                time.sleep(max(0.0, silent - time.monotonic()))
                if ending == "the connections are reset":
                    cell.site.line("provider").cut()
                    cell.site.line("consumer").cut()
            scene.settled(f"when {ending}", cell.bounds.heal)
        scene.flows(7)


@row(
    6,
    "the network loses everything and tells nobody",
    *("I1", "I2", "I3", "I5", "I6", "I7", "I10"),
    part="black-hole",
    needs=("black hole",),
    gate=("redis",),
)
def black_hole(cell: Cell) -> None:
    _silence(cell, "black hole")


@row(
    6,
    "one way: what clients send is lost, what the server sends arrives",
    *("I1", "I2", "I3", "I5", "I6", "I7", "I10"),
    part="requests-lost",
    needs=("lost requests",),
)
def lost_requests(cell: Cell) -> None:
    _silence(cell, "lost requests")


@row(
    6,
    "one way: requests are carried out, the answers are lost",
    *("I1", "I2", "I3", "I5", "I6", "I7", "I10"),
    part="answers-lost",
    needs=("lost answers",),
)
def lost_answers(cell: Cell) -> None:
    _silence(cell, "lost answers")


@row(
    6,
    "a consumer is cut off while instances come and go; the rest goes on",
    *("I2", "I3", "I6", "I7"),
    part="consumer",
    needs=("black hole",),
)
def consumer_cut_off(cell: Cell) -> None:
    with Scene(cell) as scene:
        for number in range(2):
            with cell.hurt("black hole", "consumer"):
                more = scene.provider.publish(scene.first, f"10.9.0.{number + 1}:1", timeout=5.0)
                scene.registrations.append(more)
                if number:
                    scene.registrations.pop(-2).unpublish(timeout=5.0)
                scene.change(200 + number)
                time.sleep(cell.lease * 0.5)
            scene.settled("after the consumer is back", cell.caught_up)


@row(
    7,
    "a slow line: two seconds each way, then fifty bytes a second",
    *("I1", "I2", "I3", "I7", "I10"),
    needs=("slow", "drip"),
)
def slow(cell: Cell) -> None:
    with Scene(cell) as scene:
        fast = _pick(scene.consumer, scene)
        for name, seconds, rate in (("two seconds each way", 2.0, 0.0), ("fifty bytes a second", 0.0, 50.0)):
            for client in ("provider", "consumer"):
                line = cell.site.line(client)
                line.latency(seconds)
                line.rate(rate)
            _verbs_end(cell, scene)
            picked = _pick(scene.consumer, scene)
            cell.took("I3", f"a look at a view with {name}", picked, max(10 * fast, 0.001))
            cell.site.heal()
            scene.settled(f"after {name}", cell.bounds.heal)
        scene.flows(7)


def _pick(registry: Registry, scene: Scene) -> float:
    """The median of a look at a view, in seconds."""
    taken: list[float] = []
    for _ in range(PICKS):
        began = time.perf_counter()
        registry.lookup(scene.first)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
