"""The judge of a run, and what listens for it: a ledger of each subscription, checked with every change."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator

import msgspec

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, Revision, ServiceView
from sofa_registry_adapters.testing.soak.steps import Log

INVARIANTS = {
    "I1": "what is published and alive is in the registry, soon after the last fault",
    "I2": "every view equals the registry's list, soon after the last fault",
    "I3": "no view is empty, or loses an instance, because of a fault",
    "I4": "an id is in a view once",
    "I5": "what is gone is served for a bounded time, and a view without a registry says that it is stale",
    "I6": "a view never goes back to an older revision",
    "I7": "the changes that a listener was told add up to the view",
    "I8": "a call raises errors of the library only, whatever listeners and records do",
    "I9": "threads, files, memory and what the server holds stay as many as they were",
    "I10": "every call ends within its time-out",
    "I11": "close ends within two seconds and leaves nothing behind",
    "I12": "what was withdrawn stays withdrawn",
}
TOLD = 20
"""Violations that are told in full; the rest are counted."""


class Violation(msgspec.Struct, frozen=True):
    """An invariant that did not hold: where in the run, in seconds since it began."""

    invariant: str
    round: int
    at: float
    what: str


class Judge:
    """Collects what was violated, and counts what was looked at. Any thread."""

    def __init__(self, log: Log, slack: float) -> None:
        self.log = log
        self.slack = slack
        self.round = 0
        self.violations: list[Violation] = []
        self.looked: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.longest: float = 0.0
        """Seconds by which the slowest call exceeded its time-out, or less than 0."""
        self._lock = threading.Lock()

    @property
    def passed(self) -> bool:
        """Whether nothing was violated so far."""
        return not self.violations

    def violated(self, invariant: str, what: str) -> None:
        """Note it."""
        with self._lock:
            self.violations.append(Violation(invariant, self.round, round(self.log.now, 3), what))
        if len(self.violations) <= TOLD:
            self.log.write("violation", invariant=invariant, round=self.round, error=what)

    def look(self, invariant: str, count: int = 1) -> None:
        """Something was checked."""
        with self._lock:
            self.looked[invariant] += count

    def expect(self, invariant: str, what: str, *, holds: bool) -> None:
        """Check one thing."""
        self.look(invariant)
        if not holds:
            self.violated(invariant, what)

    @contextlib.contextmanager
    def call(self, verb: str, timeout: float) -> Iterator[None]:
        """A call of the library: it ends in time, and raises nothing but errors of the library, which pass on."""
        began = time.monotonic()
        try:
            yield
        except RegistryError:
            with self._lock:
                self.failed[verb] += 1
            raise
        except Exception as error:  # noqa: BLE001  this is what it must not do
            self.violated("I8", f"{verb} raised {type(error).__name__}: {error}")
        finally:
            taken = time.monotonic() - began
            with self._lock:
                self.calls[verb] += 1
                self.longest = max(self.longest, taken - timeout)
            text = f"{verb} took {taken:.2f} s, its time-out is {timeout:g} s"
            self.expect("I10", text, holds=taken <= timeout * 1.1 + self.slack)


class Ledger:
    """Listens to one subscription: what it is told has to make sense by itself."""

    def __init__(self, judge: Judge, name: str, service: ServiceKey) -> None:
        self.name = name
        self.service = service
        self.guard: frozenset[str] = frozenset()
        """Ids that nothing happens to: no view may lose them."""
        self.view: ServiceView | None = None
        self.replica: dict[str, Instance] = {}
        self._judge = judge
        self._revision = Revision()
        self._epochs: set[str] = set()
        self._inside = threading.Lock()

    def __call__(self, change: InstancesChange) -> None:
        """Be told of a change."""
        if not self._inside.acquire(blocking=False):
            self._judge.violated("I8", f"{self.name} was called while it ran")
            return
        try:
            self._replay(change)
            self._look_at(change.instances)
            self.view = change.instances
        finally:
            self._inside.release()

    def _replay(self, change: InstancesChange) -> None:
        known = self.replica.keys()
        for one in change.removed:
            self._expect("I7", f"{one.instance_id} was removed, and was not there", holds=one.instance_id in known)
            self.replica.pop(one.instance_id, None)
        for one in change.added:
            self._expect("I7", f"{one.instance_id} was added twice", holds=one.instance_id not in known)
            self.replica[one.instance_id] = one
        for one in change.updated:
            self._expect("I7", f"{one.instance_id} was updated, and was not there", holds=one.instance_id in known)
            self.replica[one.instance_id] = one

    def _look_at(self, view: ServiceView) -> None:
        ids = [one.instance_id for one in view]
        self._expect("I4", f"an id is there twice: {sorted(ids)}", holds=len(ids) == len(set(ids)))
        held = {one.instance_id: one for one in view}
        self._expect("I7", "the changes do not add up to the view", holds=held == self.replica)
        lost = self.guard - set(ids)
        self._expect("I3", f"it lost {sorted(lost)}, which nothing happened to", holds=not lost)
        self._follow(view.revision)

    def _follow(self, revision: Revision) -> None:
        last = self._revision
        if revision.epoch == last.epoch:
            text = f"the view went back from {last.counter} to {revision.counter}"
            self._expect("I6", text, holds=revision.counter >= last.counter)
        else:
            self._expect("I6", f"the epoch {revision.epoch} came back", holds=revision.epoch not in self._epochs)
            # Without a name it is no history at all: there is nothing, and was nothing since the last loss.
            self._epochs |= {last.epoch} - {""}
        self._revision = revision

    def _expect(self, invariant: str, what: str, *, holds: bool) -> None:
        self._judge.expect(invariant, f"{self.name}, {self.service}: {what}", holds=holds)
