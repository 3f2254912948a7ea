"""Killers of several processes: pools, a server that forks its workers, everybody at once."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request

from matrix.cell import SLACK, Cell, listed

from killers.scene import MINE, OTHERS, START, Neighbours, tell, victim
from killers.table import plays
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.faults import PythonProcess, eventually, free_port
from sofa_registry_adapters.testing.soak.bounds import LEASES, bounds_of

ECHO = ServiceKey("killers.Echo")
CROWD = 200 if os.environ.get("SOFA_OUTAGE") == "all" else 16
"""Processes; in the gate fewer, because each takes half a second of a processor to start."""
FILE = 50
"""As many of them as a file is asked to take, which one process at a time writes; see the page about scale."""
FEW, PATIENT = 16, 10.0
STARTED = 8
"""Of them start together: to start is not what they do at once."""
AT_ONCE = 30.0
"""Seconds by which everybody is in the registry."""
WORKERS = 3
WITHIN = 15.0
"""Seconds in which gunicorn does what it is told."""


@plays
def multiprocessing_pools(cell: Cell) -> None:
    neighbours = Neighbours(cell, ECHO)
    child = victim(cell, "pools", ECHO)
    child.expect("live", START)
    for method in ("spawn", "forkserver", "fork"):
        words = child.expect(f"{method} ", START * 2).split()
        refused = method == "fork" and not cell.capabilities.survives_fork
        answer, workers = ("refused", "0") if refused else ("sees", "2")
        assert words == [method, answer, workers, "0", "live"], words
        cell.judge.look("I1")
        cell.judge.look("I11")
    cell.judge.expect("I1", "the parent's is gone", holds=neighbours.listed(ECHO))


@plays
def everybody_at_once(cell: Cell) -> None:
    many = CROWD if cell.site.lines else min(CROWD, FILE)
    if many > FEW:
        _patience(cell)
    neighbours = Neighbours(cell, ECHO)
    addresses = [f"10.2.{number >> 8}.{number & 255}:1" for number in range(many)]
    crowd: list[PythonProcess] = []
    for place in range(0, many, STARTED):
        # Past all lines: a line of this process would be what keeps so many waiting.
        some = addresses[place : place + STARTED]
        group = [victim(cell, "crowd", ECHO, address=address, url=cell.site.url) for address in some]
        for one in group:
            one.expect("stands by", START)
        crowd += group
    ledger, began = neighbours.ledgers[ECHO], time.monotonic()
    for one in crowd:
        tell(one)
    for one in crowd:
        one.expect("live", AT_ONCE + SLACK)
    cell.took("I1", f"{many} processes that begin at once are all published", time.monotonic() - began, AT_ONCE)
    everybody = {*addresses, *OTHERS}
    cell.within("I1", "all are in the registry", lambda: not _missing(neighbours, everybody), 5.0)
    cell.within("I2", "the consumer sees all", lambda: set(ledger.replica) == everybody, 5.0)
    ledger.guard = frozenset(ledger.replica)
    if "start" in cell.site.abilities:
        cell.site.kill()
        cell.site.start()
        cell.within(
            "I1",
            "all are in the registry after a restart",
            lambda: not _missing(neighbours, everybody),
            AT_ONCE,
        )
        cell.stays(
            "I1",
            "they stay",
            lambda: _missing(neighbours, everybody) <= {"an answer"},
            min(cell.lease * 1.5, 5.0),
        )
    ledger.guard = frozenset()
    for one in crowd:
        one.kill()
    # The server closes as many connections, and so many records vanish.
    bound = cell.dead + many * 0.02
    cell.within("I5", "all are gone", lambda: not _missing(neighbours, set(OTHERS)), bound)
    cell.judge.expect("I3", "the view is empty", holds=set(OTHERS) <= set(ledger.replica))


def _patience(cell: Cell) -> None:
    """Leases as they are by default: two processors that two hundred processes want are late for everything."""
    cell.options |= dict.fromkeys(set(LEASES) & set(cell.options), PATIENT)
    cell.bounds = bounds_of(cell.site, cell.options, SLACK)


def _missing(neighbours: Neighbours, everybody: set[str]) -> set[str]:
    found = listed(neighbours.reader, ECHO)
    return {"an answer"} if found is None else everybody.symmetric_difference(found)


APPLICATION = """
import os
from sofa_registry_adapters import Registry

registry = Registry({url!r}, options={options!r})
registration = registry.publish({service!r}, {address!r}, timeout=20)


def application(environment, start):
    try:
        found = ",".join(sorted(one.instance_id for one in registry.lookup({service!r})))
    except Exception as error:
        found = type(error).__name__
    start("200 OK", [("Content-Type", "text/plain")])
    return [(str(os.getpid()) + " " + found).encode()]


def on_exit(server):
    registry.close()
"""


@plays
def gunicorn_preload(cell: Cell) -> None:
    neighbours = Neighbours(cell, ECHO)
    server = _gunicorn(cell)
    neighbours.here(ECHO, "before", START)
    expected = ",".join(sorted((*OTHERS, MINE)))
    if not cell.capabilities.survives_fork:
        expected = "ForkUnsupported"
    seen: set[str] = set()
    for _ in range(WORKERS):
        asked = eventually(lambda: _fresh(server.port, seen), WITHIN, "a worker answers that did not before")
        worker, found = asked.split()
        seen.add(worker)
        assert found == expected
        cell.judge.look("I2")
        # The one that answered is killed; gunicorn starts another.
        os.kill(int(worker), 9)
        cell.stays("I1", "the master's is listed", lambda: neighbours.listed(ECHO), 0.5)
    cell.judge.expect("I1", "a consumer lost it", holds=neighbours.seen(ECHO))
    began = time.monotonic()
    status = server.process.terminate(WITHIN)
    cell.took("I11", "the server has ended", time.monotonic() - began, WITHIN)
    assert status == 0, server.process.output
    assert "Exception" not in server.process.output, server.process.output
    neighbours.gone(ECHO, "after that", cell.told, "I11")


class _Server:
    def __init__(self, process: PythonProcess, port: int) -> None:
        self.process = process
        self.port = port


def _gunicorn(cell: Cell) -> _Server:
    folder = cell.folder
    given = {"url": cell.site.url_of("child"), "options": cell.options}
    (folder / "shop.py").write_text(APPLICATION.format(service=str(ECHO), address=MINE, **given))
    (folder / "gunicorn.conf.py").write_text("def on_exit(server):\n    import shop\n    shop.on_exit(server)\n")
    port = free_port()
    words = ["-W", "ignore::DeprecationWarning", "-m", "gunicorn", "--preload", "--workers", "2"]
    words += ["--chdir", str(folder), "--config", str(folder / "gunicorn.conf.py")]
    words += ["--bind", f"127.0.0.1:{port}", "shop:application"]
    process = cell.program(words)
    process.expect("Booting worker", START)
    return _Server(process, port)


def _fresh(port: int, before: set[str]) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            text: str = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return ""
    return "" if text.split(maxsplit=1)[0] in before else text
