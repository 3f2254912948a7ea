"""What a row is played with: clients on lines of their own, a judge of all that they are told, and figures."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

import msgspec

import sofa_registry_adapters
from matrix.table import Figure
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Capabilities, Value
from sofa_registry_adapters.testing.faults import PythonProcess, eventually, python_process
from sofa_registry_adapters.testing.faults.nemeses import NEMESES
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.provider import Plan
from sofa_registry_adapters.testing.soak.bounds import (
    BACKOFF,
    EXCHANGE,
    Bounds,
    backend_of,
    bounds_of,
    run_options,
)
from sofa_registry_adapters.testing.soak.judging import Judge, Ledger
from sofa_registry_adapters.testing.soak.steps import Log

T = TypeVar("T")
SLACK = 1.0
"""Seconds that a busy machine may add to each bound."""
TOLD = 2.0
"""Seconds within which a change is seen while nothing is broken, beside what the product declares."""
GLANCE = 0.01
SPARE = 5
"""Threads or files by which two quiet moments may differ."""


class Cell:
    """One row on one backend, in a namespace of its own."""

    def __init__(self, site: Site, namespace: str, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.options: dict[str, Value] = {**run_options(site), "namespace": namespace}
        self.bounds: Bounds = bounds_of(site, self.options, SLACK)
        self.capabilities: Capabilities = backend_of(site.url).capabilities
        self.judge = Judge(Log(None), SLACK)
        self.figures: list[Figure] = []
        self._closing = contextlib.ExitStack()

    @property
    def lease(self) -> float:
        """Seconds that records outlive the last sign of life of their owner."""
        return self.bounds.lease or self.capabilities.notices_silence_within

    @property
    def told(self) -> float:
        """Seconds within which a change is seen while nothing is broken."""
        return TOLD + self.capabilities.visible_within

    @property
    def exchange(self) -> float:
        """Seconds that one exchange with the product may take."""
        return EXCHANGE

    @property
    def back(self) -> float:
        """Seconds after an outage by which everything is in the registry again: a heartbeat, an attempt that hangs, a pause."""
        return max(1.0, self.bounds.lease / 3) + EXCHANGE + BACKOFF + self.capabilities.visible_within + SLACK

    @property
    def dead(self) -> float:
        """Seconds after its death by which nobody sees a provider any more, where others of its service live."""
        at_once = self.capabilities.notices_death_at_once
        seconds = self.capabilities.notices_death_within + 1.0 if at_once else self.bounds.silent
        return seconds + self.capabilities.visible_within

    @property
    def caught_up(self) -> float:
        """Seconds after an outage by which a view has what it missed. On Nacos a connection that is made anew cannot tell a server that
        began anew, and may not know everybody yet, from one that stayed: who is missing in its first list waits for the hold."""
        return self.bounds.heal + (self.bounds.hold if self.site.url.startswith("nacos") else 0.0)

    # Clients.

    def registry(self, client: str, *, clock: Clock | None = None, **options: Value) -> Registry:
        """A new Registry on the line of this client, closed at the end."""
        return self._closed(self.site.url_of(client), options, clock)

    def direct(self, **options: Value) -> Registry:
        """A new Registry past all lines, closed at the end."""
        return self._closed(self.site.url, options)

    def _closed(self, url: str, options: Mapping[str, Value], clock: Clock | None = None) -> Registry:
        given = {**self.options, **options}
        made = Registry(url, options=given, clock=clock, credentials=self.site.credentials)
        return self._closing.enter_context(contextlib.closing(made))

    def child(self, mode: str, address: str, service: ServiceKey, **fields: str | float) -> PythonProcess:
        """A process that publishes and behaves as ``mode`` says; see `provider`."""
        plan = Plan(mode, self.site.url_of("child"), self.options, str(service), address, **fields)  # type: ignore[arg-type]
        return self.program(["-m", "sofa_registry_adapters.testing.provider", msgspec.json.encode(plan).decode()])

    def program(self, words: list[str]) -> PythonProcess:
        """A Python with these words on its command line, killed at the end."""
        package = str(Path(sofa_registry_adapters.__file__).parent.parent)
        places = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        return self._closing.enter_context(python_process(words, {"PYTHONPATH": places}))

    def follow(self, registry: Registry, service: ServiceKey, name: str = "consumer") -> Ledger:
        """Subscribe, with a ledger that is judged with every change."""
        ledger = Ledger(self.judge, name, service)
        registry.subscribe(service, ledger, timeout=10.0)
        return ledger

    def close(self) -> None:
        """Close all of them; the site is whole again before that."""
        self._closing.close()

    # Faults.

    def hurt(self, name: str, client: str = "") -> contextlib.AbstractContextManager[None]:
        """A fault of the catalogue, while the block runs."""
        return NEMESES[name].on(self.site, client)

    # What must hold.

    def within(self, invariant: str, what: str, condition: Callable[[], T], bound: float) -> T:
        """It becomes true within so many seconds; how many it took is a figure."""
        began = time.monotonic()
        found = eventually(condition, bound, f"{invariant}: {what}")
        self.took(invariant, what, time.monotonic() - began, bound)
        return found

    def took(self, invariant: str, what: str, seconds: float, bound: float) -> None:
        """It took so many seconds, and that is not too many."""
        self.figures.append(Figure(invariant, what, round(seconds, 3), round(bound, 3)))
        self.judge.look(invariant)
        assert seconds <= bound, f"{invariant}: {what} took {seconds:.2f} s, the bound is {bound:g} s"

    def stays(self, invariant: str, what: str, condition: Callable[[], object], seconds: float) -> None:
        """It is true for so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.judge.look(invariant)
            assert condition(), f"{invariant}: it did not stay so: {what}"
            time.sleep(0.02)

    def ends(self, verb: str, timeout: float, call: Callable[[], object]) -> RegistryError | None:
        """The call ends in time; the error that it raised."""
        error: RegistryError | None = None
        began = time.monotonic()
        try:
            with self.judge.call(verb, timeout):
                call()
        except RegistryError as raised:
            error = raised
        bound = timeout * 1.1 + SLACK
        self.took("I10", f"{verb} ends, with a time-out of {timeout:g} s", time.monotonic() - began, bound)
        return error

    @contextlib.contextmanager
    def no_leaks(self) -> Iterator[None]:
        """After the block there are as many threads and open files as before."""
        before = self._held()
        yield
        held = self._held()
        text = f"{before} threads and files before"
        eventually(lambda: all(now <= then + SPARE for now, then in zip(self._held(), before, strict=True)), 5.0, text)
        self.judge.look("I9", len(held))

    def _held(self) -> tuple[int, int]:
        gc.collect()
        files = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 2 * self.site.links
        return threading.active_count(), files

    def finish(self) -> None:
        """Nothing that anybody was told was wrong."""
        assert self.judge.passed, "\n".join(f"{one.invariant}: {one.what}" for one in self.judge.violations)


class Watcher:
    """Looks at a view all the time, as callers do that pick an instance: it is never empty, and looking takes no time."""

    def __init__(self, cell: Cell, looks: Mapping[ServiceKey, Registry]) -> None:
        self._cell = cell
        self._looks = looks
        self.slowest = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        judge = self._cell.judge
        while not self._stopped.wait(GLANCE) and judge.passed:
            for service, registry in self._looks.items():
                began = time.perf_counter()
                view = registry.lookup(service, timeout=0.1)
                self.slowest = max(self.slowest, time.perf_counter() - began)
                judge.expect("I3", f"the view of {service} is empty", holds=len(view) > 0)


def listed(registry: Registry, service: ServiceKey) -> dict[str, Instance] | None:
    """What one read of the registry finds, by id; None while it does not answer."""
    try:
        return {one.instance_id: one for one in registry.lookup(service, timeout=1.0)}
    except RegistryError:
        return None


@contextlib.contextmanager
def measured(cell: Cell, invariant: str, what: str, bound: float) -> Iterator[None]:
    """The block takes no longer."""
    began = time.monotonic()
    yield
    cell.took(invariant, what, time.monotonic() - began, bound)
