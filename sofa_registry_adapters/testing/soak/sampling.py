"""A thread that looks at the views of all consumers all the time, as callers do that pick an instance."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.soak.clients import Consumer
from sofa_registry_adapters.testing.soak.judging import Judge, Ledger

GLANCE = 0.02
PICK = 0.1
"""The time-out of a look at a view, which needs no I/O."""


class Sampler:
    """No view that once had an instance is ever empty: the anchor's are always alive."""

    def __init__(self, judge: Judge, consumers: Sequence[Consumer], anchored: Collection[ServiceKey]) -> None:
        self._judge = judge
        self._anchored = frozenset(anchored)
        self._consumers = consumers
        self._stopped = threading.Event()
        self._told: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="soak sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(GLANCE):
            for consumer in self._consumers:
                for ledger in consumer.ledgers():
                    if ledger.service in self._anchored and ledger.view:
                        self._look(consumer, ledger)

    def _look(self, consumer: Consumer, ledger: Ledger) -> None:
        began, registry = time.monotonic(), consumer.registry
        try:
            size = len(registry.lookup(ledger.service, timeout=PICK))
        except RegistryError:
            # Closed, or made anew and not yet connected: it is another Registry than the one that had a view.
            if registry is consumer.registry and ledger in consumer.ledgers() and not registry._closed:  # noqa: SLF001
                self._tell(ledger, "cannot be looked up any more")
            return
        taken = time.monotonic() - began
        self._judge.expect("I10", f"a look at a view took {taken:.2f} s", holds=taken <= PICK + self._judge.slack)
        self._judge.look("I3")
        if not size:
            self._tell(ledger, "is empty")

    def _tell(self, ledger: Ledger, what: str) -> None:
        if id(ledger) not in self._told:
            self._told.add(id(ledger))
            self._judge.violated("I3", f"{ledger.name}, {ledger.service}: the view {what}")
