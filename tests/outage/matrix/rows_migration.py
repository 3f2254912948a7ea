"""The row of a service that moves from one registry to another, with what every application has: a Registry for each side."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from matrix.cell import GLANCE, Cell, listed
from matrix.table import row
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.handles import Registration
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.sites import LocalSite
from sofa_registry_adapters.testing.soak.bounds import run_options
from sofa_registry_adapters.testing.soak.judging import Ledger

ECHO = ServiceKey("matrix.Echo")
ADDRESSES = tuple(f"10.0.0.{number}:80" for number in range(1, 5))


@row(
    19,
    "a service moves here from a file, and back: published in both for a while, in which this registry is down for part",
    *("I1", "I2", "I3", "I4", "I7", "I10", "I12"),
)
def moved(cell: Cell) -> None:
    with LocalSite() as old, contextlib.ExitStack() as closing:
        options = {**run_options(old), "namespace": cell.options["namespace"]}
        publisher, consumer = (
            closing.enter_context(contextlib.closing(Registry(old.url, options=options))) for _ in range(2)
        )
        here = _Side(cell, cell.registry("provider"), cell.registry("consumer"))
        _moved(cell, _Side(cell, publisher, consumer), here)


class _Side:
    """One of the two registries: who publishes in it, and the view of it."""

    def __init__(self, cell: Cell, publisher: Registry, consumer: Registry) -> None:
        self.publisher = publisher
        self.consumer = consumer
        self.ledger: Ledger = cell.follow(consumer, ECHO)

    def ids(self) -> list[str]:
        return [one.instance_id for one in self.consumer.lookup(ECHO, timeout=0.1)]

    def shows(self, weight: int) -> bool:
        return [one.weight for one in self.consumer.lookup(ECHO, timeout=0.1)] == [weight] * len(ADDRESSES)

    def lists(self) -> bool:
        return set(listed(self.publisher, ECHO) or ()) == set(ADDRESSES)

    def publish(self) -> Registration:
        """In the end, whether the registry answers now or not."""
        return self.publisher.publish(ECHO, ADDRESSES, required=False, timeout=10.0)


def _moved(cell: Cell, one: _Side, other: _Side) -> None:
    here = one.publish()
    cell.within("I2", "the first side shows it", lambda: one.shows(100), cell.told)
    with _never_empty(cell, one, other):
        with _down(cell):
            there = other.publish()
            assert isinstance(
                cell.ends("a lookup", 0.4, lambda: other.publisher.lookup("else", timeout=0.4)), Unavailable | None
            )
            here.update(weight=7, timeout=5.0)
            cell.within("I2", "the first side goes on while the second is down", lambda: one.shows(7), cell.told)
            time.sleep(1.0)
        cell.within("I1", "the second side has it", lambda: other.lists() and there.state == "live", cell.bounds.heal)
        cell.within("I2", "the second side shows it", lambda: other.shows(100), cell.told)
        both = {each.instance_id for side in (one, other) for each in side.consumer.lookup(ECHO)}
        cell.judge.expect("I4", f"together they have {sorted(both)}", holds=both == set(ADDRESSES))
        here.unpublish(timeout=5.0)
        cell.within("I12", "the first side shows it no more", lambda: not one.ids(), cell.told)
        # Back again, as when something is wrong with the new one.
        here = one.publish()
        cell.within("I1", "the first side has it again", lambda: one.lists() and here.state == "live", cell.told)
        cell.within("I2", "the first side shows it again", lambda: one.shows(100), cell.told)
        there.unpublish(timeout=5.0)
        cell.within("I12", "the second side shows it no more", lambda: not other.ids(), cell.told)


@contextlib.contextmanager
def _down(cell: Cell) -> Iterator[None]:
    """The second side is killed, or as near to that as it can be."""
    with cell.hurt("kill" if "kill" in cell.site.abilities else "pause"):
        yield


@contextlib.contextmanager
def _never_empty(cell: Cell, *sides: _Side) -> Iterator[None]:
    """Meanwhile whoever takes what either side shows has something."""
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(GLANCE):
            cell.judge.expect("I3", "both views are empty", holds=any(side.ids() for side in sides))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
