"""The table of killers: what each is, what the registry shows, and where it is played. The plays are beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
from matrix.table import RESULTS as OUTAGES

if TYPE_CHECKING:
    from matrix.cell import Cell

RESULTS = OUTAGES / "killers"
Play = Callable[["Cell"], None]


class Killer(msgspec.Struct, frozen=True, kw_only=True):
    """Something that ends, or nearly ends, a Python program.

    ``meanwhile`` and ``after`` say what the registry shows. ``absent`` says for backends why they have no such cell.
    ``gate``: the backends for which it is played whenever the tests are run.
    """

    name: str
    what: str
    meanwhile: str
    after: str
    invariants: tuple[str, ...]
    absent: Mapping[str, str] = {}
    gate: tuple[str, ...] = ()


_ALL = (
    Killer(
        name="spinning-threads",
        what="eight threads compute in Python, for three leases",
        meanwhile="stays listed",
        after="stays listed",
        invariants=("I1", "I2", "I7"),
    ),
    Killer(
        name="long-pattern",
        what="a pattern that backtracks holds the interpreter's lock in C, for longer than a lease",
        meanwhile="gone when its lease is over: nothing of Python can run",
        after="published again, by the same owner",
        invariants=("I1", "I2", "I5", "I7"),
        gate=("redis",),
    ),
    Killer(
        name="long-loop",
        what="a loop in C over a large range holds the interpreter's lock, for longer than a lease",
        meanwhile="gone when its lease is over: nothing of Python can run",
        after="published again, by the same owner",
        invariants=("I1", "I2", "I5", "I7"),
    ),
    Killer(
        name="no-files",
        what="file descriptors run out (RLIMIT_NOFILE), and nothing else happens",
        meanwhile="stays listed: a heartbeat needs no new one",
        after="stays listed",
        invariants=("I1", "I7", "I10"),
    ),
    Killer(
        name="no-files-and-cut",
        what="file descriptors run out, and the connection is reset",
        meanwhile="gone when its lease is over: nobody can connect without one; every call ends in time with an error of its type",
        after="published again, when there are some",
        invariants=("I1", "I2", "I5", "I7", "I10"),
        absent={"local": "a file that is open is no connection"},
        gate=("zookeeper",),
    ),
    Killer(
        name="multiprocessing-pools",
        what="pools of multiprocessing, by spawn, forkserver and fork; each worker publishes and is not told to withdraw",
        meanwhile="the parent's stays; each worker's is beside it",
        after="the workers' are withdrawn when they end in good order; on etcd and Nacos a forked one is refused, typed",
        invariants=("I1", "I7", "I11"),
    ),
    Killer(
        name="everybody-at-once",
        what="very many processes publish at the same moment, see the server restart, and are killed together",
        meanwhile="all are listed; none is missing after the restart",
        after="all are gone when their connections or leases are found dead",
        invariants=("I1", "I2", "I3", "I5", "I7"),
        gate=("redis",),
    ),
    Killer(
        name="gunicorn-preload",
        what="gunicorn loads the application before it forks (`--preload`), which has a Registry open; workers use it, are killed, are replaced",
        meanwhile="the master's stays, whatever happens to its workers; on etcd and Nacos the workers' verbs are refused, typed",
        after="withdrawn when the master ends on SIGTERM",
        invariants=("I1", "I2", "I3", "I7", "I11"),
    ),
    Killer(
        name="good-order",
        what="it ends in good order: the main thread returns, `sys.exit`, an exception that nobody catches, Ctrl-C, SIGTERM with a handler, an event loop that returns or raises; functions at exit that use the registry",
        meanwhile="withdrawn, at the end of the interpreter",
        after="gone, with the process, and out of every view",
        invariants=("I2", "I3", "I7", "I11"),
        gate=("redis",),
    ),
    Killer(
        name="without-a-word",
        what="it ends without a word: SIGTERM without a handler, `os._exit` in the main thread or another one, SIGABRT",
        meanwhile="still listed, as after SIGKILL",
        after="gone when its connection or its lease is found dead",
        invariants=("I2", "I3", "I5", "I7", "I11"),
    ),
    Killer(
        name="thread-exits",
        what="a thread calls `sys.exit`, which ends that thread only",
        meanwhile="stays listed",
        after="stays listed",
        invariants=("I1", "I7"),
    ),
    Killer(
        name="thread-goes-on",
        what="the main thread returns while another one still works, for two seconds",
        meanwhile="stays listed until that thread has ended",
        after="gone, with the process, and out of every view",
        invariants=("I1", "I2", "I3", "I7", "I11"),
    ),
    Killer(
        name="silent-registry",
        what="it ends while the registry is silent: with calls that wait in the main thread, in daemons, in a pool of threads; with a watch that waits, a listener that never returns",
        meanwhile="the process ends in time; nobody can withdraw",
        after="gone when its lease is over",
        invariants=("I2", "I3", "I5", "I7", "I11"),
        gate=("zookeeper",),
    ),
)
KILLERS: Mapping[str, Killer] = {one.name: one for one in _ALL}
PLAYS: dict[str, Play] = {}


def plays(play: Play) -> Play:
    """Enter the function as the play of the killer of its name."""
    name = play.__name__.replace("_", "-")
    assert name in KILLERS, name
    PLAYS[name] = play
    return play
