"""P3: one change of a service, from the event to the new view.

Baseline: a full diff, as clients do that are handed whole lists: the new list as a dictionary, compared with the old one instance by instance.
Ours: the mirror of the engine, which is handed a patch with one instance; a listener's mailbox takes it up. Both work on the same instances, in this
thread, without a server, and what counts is the CPU time of the thread. Limits: a tenth of the diff at 10 000 instances, with the view read after each change; 1.5 times from 10 to 10 000 where
nobody reads the view; a burst of a hundred changes, which the stores hand over in one patch when they are waiting together, within a microsecond each and one
reading of the view.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec

from measuring.content import instance
from measuring.report import Cell, of_limit
from measuring.rounds import Figures, alternate, batched, figures, ratio, rounded, used
from sofa_registry_adapters.engine.mailbox import Events
from sofa_registry_adapters.engine.mirror import Mirror
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Patch, Snapshot

GOAL = "P3"
TITLE = "One change"
BACKENDS = ("",)
SIZES = (10, 1_000, 10_000)
BURST = 100


class Changing:
    """A mirror with so many instances, of which one changes its weight, or leaves and comes back."""

    def __init__(self, size: int) -> None:
        backend: Any = SimpleNamespace(capabilities=Capabilities())
        pace: Any = SimpleNamespace(call_timeout=5, protection_hold=10, reconcile=30, full_read=600, poll=1)
        events: Any = Events(SimpleNamespace())  # type: ignore[arg-type]
        self.mirror = Mirror(ServiceKey("echo"), backend, pace, SystemClock(), events)
        self.mailbox = self.mirror.open_mailbox(lambda _: None)
        self.mirror.mailboxes.append(self.mailbox)
        self.instances = [instance(number) for number in range(size)]
        self._turn = 0
        self._states = [msgspec.structs.replace(self.instances[3], weight=weight) for weight in (50, 60)]
        self._counter = 1
        self.mirror._apply(Snapshot(Revision("e", 1), tuple(self.instances)))
        self.mailbox.take()

    def update(self) -> None:
        """Another weight, which nobody reads."""
        self._counter += 1
        self._turn ^= 1
        self.mirror._apply(Patch(Revision("e", self._counter), (self._states[self._turn],)))

    def leave_and_return(self) -> None:
        """It is deleted and comes back: two changes."""
        for changed, removed in (((), (self._states[0].instance_id,)), ((self._states[0],), ())):
            self._counter += 1
            self.mirror._apply(Patch(Revision("e", self._counter), changed, removed))
        self.mirror._protection._losses.clear()

    def read(self) -> tuple[Instance, ...]:
        """What a listener does: take the change, and look at all instances."""
        change = self.mailbox.take()
        assert change is not None
        return change.instances.settle()

    def update_and_read(self) -> None:
        """From the event to the view."""
        self.update()
        self.read()


class Diffing:
    """The same by comparing whole lists."""

    def __init__(self, size: int) -> None:
        self._lists = [[instance(number) for number in range(size)] for _ in range(2)]
        self._lists[1][3] = msgspec.structs.replace(self._lists[1][3], weight=50)
        self._turn = 0
        self.known = {one.instance_id: one for one in self._lists[0]}

    def step(self) -> None:
        """The next list, and what differs."""
        self._turn ^= 1
        fresh = {one.instance_id: one for one in self._lists[self._turn]}
        changed = [one for name, one in fresh.items() if self.known.get(name) != one]
        gone = [name for name in self.known if name not in fresh]
        self.known = fresh
        assert len(changed) == 1
        assert not gone


def measure(_: object, rounds: int) -> list[Cell]:
    """All cells."""
    ours = {size: Changing(size) for size in SIZES}
    diff = {size: Diffing(size) for size in SIZES}
    sides: dict[str, Callable[[], Any]] = {}
    for size in SIZES:
        sides[f"ours {size}"] = batched(ours[size].update_and_read, 200)
        sides[f"index {size}"] = batched(ours[size].update, 500)
        sides[f"removal {size}"] = batched(ours[size].leave_and_return, 100)
        sides[f"raw {size}"] = batched(diff[size].step, max(3, 20_000 // size))
    found = alternate(sides, rounds)
    shown = {name: figures(played) for name, played in found.items()}
    return [*_changes(found, shown), *_growth(found, shown), *_burst(ours[SIZES[-1]], rounds)]


def _changes(found: Any, shown: dict[str, Figures]) -> list[Cell]:
    cells = []
    for size in SIZES:
        pair = {"ours": shown[f"ours {size}"], "raw": shown[f"raw {size}"]}
        times = ratio(found, f"ours {size}", f"raw {size}")
        if size == SIZES[-1]:
            cells.append(
                of_limit("a change and the view, against a full diff", times, "times", 0.1, n=size, sides=pair)
            )
        else:
            cells.append(Cell("a change and the view, against a full diff", times, "times", n=size, sides=pair))
    return cells


def _growth(found: Any, shown: dict[str, Figures]) -> list[Cell]:
    few, many = SIZES[0], SIZES[-1]
    cells = []
    for side, what in (("index", "a change that nobody reads"), ("removal", "an instance leaves and returns")):
        times = ratio(found, f"{side} {many}", f"{side} {few}")
        pair = {f"{size}": shown[f"{side} {size}"] for size in SIZES}
        cells.append(of_limit(f"{what}, 10 000 instances against 10", times, "times", 1.5, n=many, sides=pair))
    return cells


def _burst(changing: Changing, rounds: int) -> list[Cell]:
    """Each change of the burst is another instance's, as after a deployment."""
    fresh = [[msgspec.structs.replace(one, weight=weight) for one in changing.instances[:BURST]] for weight in (70, 80)]
    turn = 0

    def together() -> list[float]:
        nonlocal turn
        turn ^= 1
        start = time.thread_time()
        changing._counter += 1
        changing.mirror._apply(Patch(Revision("e", changing._counter), tuple(fresh[turn])))
        changing.read()
        return [time.thread_time() - start]

    def one_by_one() -> list[float]:
        nonlocal turn
        turn ^= 1
        start = time.thread_time()
        for one in fresh[turn]:
            changing._counter += 1
            changing.mirror._apply(Patch(Revision("e", changing._counter), (one,)))
        changing.read()
        return [time.thread_time() - start]

    def reading() -> list[float]:
        changing.update()
        start = time.thread_time()
        changing.read()
        return [time.thread_time() - start]

    found = alternate({"ours": together, "raw": reading, "patch by patch": one_by_one}, rounds * 3)
    part = used(found, "ours", lambda number: BURST * 1e-6 + found["raw"][number].wall[0])
    sides = {name: figures(played) for name, played in found.items()}
    limit = rounded(BURST + sides["raw"].p50)
    what = "100 changes in one patch, one view"
    cell = Cell(
        what, sides["ours"].p50, "µs", limit, part, n=SIZES[-1], sides={"ours": sides["ours"], "raw": sides["raw"]}
    )
    apart = sides["patch by patch"]
    return [cell, Cell("100 changes patch by patch, one view", apart.p50, "µs", n=SIZES[-1], sides={"ours": apart})]
