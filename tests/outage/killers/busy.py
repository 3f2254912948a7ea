"""Killers that let the process live: it computes, it is frozen from inside, it has no file descriptors left."""

from __future__ import annotations

import signal

import msgspec
from matrix.cell import Cell

from killers.scene import START, Neighbours, tell, victim
from killers.table import plays
from killers.victim import Tried
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.faults import PythonProcess

ECHO = ServiceKey("killers.Echo")
HELD = 0.9
"""How much of a call in C no other thread may have run."""
SHARE = 0.5
"""How much of a processor a process may use that can reach nobody."""


@plays
def spinning_threads(cell: Cell) -> None:
    neighbours, seconds = Neighbours(cell, ECHO), min(cell.lease * 3, 40.0)
    child = victim(cell, "spin", ECHO, seconds=seconds)
    child.expect("live", START)
    neighbours.here(ECHO, "before", cell.told)
    tell(child)
    cell.stays("I1", "it is listed", lambda: neighbours.listed(ECHO), seconds)
    child.expect("ends", START)
    cell.judge.expect("I2", "the view lost it", holds=neighbours.seen(ECHO))


@plays
def long_pattern(cell: Cell) -> None:
    _frozen(cell, "pattern")


@plays
def long_loop(cell: Cell) -> None:
    _frozen(cell, "arithmetic")


def _frozen(cell: Cell, mode: str) -> None:
    neighbours, seconds = Neighbours(cell, ECHO), cell.bounds.silent + 1.0
    child = victim(cell, mode, ECHO, seconds=seconds)
    child.expect("live", START)
    neighbours.here(ECHO, "before", cell.told)
    tell(child)
    child.expect("holds", START)
    neighbours.gone(ECHO, "while the lock is held", cell.bounds.silent)
    _, longest, took, _ = child.expect("ends", 4 * seconds + START).split()
    assert float(longest) >= HELD * float(took), f"others could run: {longest} s of {took} s"
    # A call that was under way ends first.
    neighbours.here(ECHO, "again after that", 1.0 + cell.exchange + cell.capabilities.visible_within)
    cell.stays("I1", "it stays", lambda: neighbours.listed(ECHO), min(cell.lease, 3.0))


@plays
def no_files(cell: Cell) -> None:
    neighbours = Neighbours(cell, ECHO)
    child = victim(cell, "starve", ECHO)
    child.expect("live", START)
    neighbours.here(ECHO, "before", cell.told)
    tell(child)
    child.expect("starved", START)
    cell.stays("I1", "it is listed", lambda: neighbours.listed(ECHO), min(cell.lease * 2, 20.0))
    _fed(cell, child)
    neighbours.here(ECHO, "after that", cell.told)


@plays
def no_files_and_cut(cell: Cell) -> None:
    neighbours = Neighbours(cell, ECHO)
    child = victim(cell, "starve", ECHO)
    child.expect("live", START)
    neighbours.here(ECHO, "before", cell.told)
    tell(child)
    child.expect("starved", START)
    cell.site.line("child").cut()
    neighbours.gone(ECHO, "while there are none", cell.bounds.silent)
    tried = _fed(cell, child)
    assert tried.errors, "all calls were answered over a connection that was reset"
    neighbours.here(ECHO, "when there are some again", cell.back)
    child.expect("live again", cell.back)


def _fed(cell: Cell, child: PythonProcess) -> Tried:
    tell(child, signal.SIGUSR2)
    tried = msgspec.json.decode(child.expect("fed", START).partition(" ")[2], type=Tried)
    assert tried.count, "no call was tried"
    assert not tried.escaped, tried.escaped
    assert set(tried.errors) <= {"Unavailable", "DeadlineExceeded"}, tried.errors
    cell.took("I10", "the slowest call ends, with a time-out of 1 s", tried.slowest, 1.1 + 1.0)
    assert tried.share < SHARE, f"it used {tried.share:.0%} of a processor"
    return tried
