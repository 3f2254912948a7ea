"""One watched service: a copy that follows the registry in O(changes) and outlives its faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Protocol

from sofa_registry_adapters.engine import follower
from sofa_registry_adapters.engine.follower import Follower
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.mailbox import Events, Mailbox
from sofa_registry_adapters.engine.protection import Protection
from sofa_registry_adapters.engine.retry import REACHABILITY
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.model.events import (
    InstancesChanged,
    ProtectionEnded,
    ProtectionStarted,
    RecordRejected,
)
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Delta, InstancesChange, Revision, ServiceView, Source
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Rejected, Snapshot

REPEAT_AFTER = 60.0
"""Seconds before the same rejected record is reported again."""


class Pace(follower.Pace, Protocol):
    """The times a mirror keeps, in seconds."""

    @property
    def protection_hold(self) -> float: ...
    @property
    def full_read(self) -> float: ...


class Mirror(Follower[Snapshot | Patch]):
    """The copy, its tasks, and the mailboxes of those who want to know. Lives on the engine's loop."""

    def __init__(
        self,
        service: ServiceKey,
        backend: RegistryBackend,
        pace: Pace,
        clock: Clock,
        bus: Events,
    ) -> None:
        super().__init__(service, pace, clock, push=backend.capabilities.push)
        self.service = service
        self.source: Source = Source(service, clock.monotonic)
        self.changed: Callable[[Mirror], None] | None = None
        self._backend = backend
        self._pace = pace
        self._emit = bus.emit
        self._wants = bus.wanted
        self._protection = Protection(pace.protection_hold)
        self._era = 0
        self._last: Revision | None = None
        self._reported: dict[str, float] = {}
        self._confirming: asyncio.Task[None] | None = None

    def _works(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (self._follow, self._reconcile)

    def open_mailbox(self, forget: Callable[[Any], None]) -> Mailbox:
        return Mailbox(self.source, forget, known=self.known.is_set())

    def view(self) -> ServiceView:
        """The newest view. Any thread; no I/O."""
        return self.source.view()

    def ending(self) -> Iterator[asyncio.Task[None] | None]:
        self.source.end()
        yield from super().ending()
        yield self._confirming

    def preload(self, instances: Iterable[Instance], age: float) -> None:
        """Start from a view saved ``age`` seconds ago, unless the registry was faster."""
        if self.known.is_set():
            return
        source = self.source
        with source.locked():
            source.retire()
            source.instances = {one.instance_id: one for one in instances}
            source.stale = True
            source.confirmed = self._clock.monotonic() - age
            delta = Delta(source.instances.values())
            for mailbox in self.mailboxes:
                mailbox.put_locked(delta, flags=True)
        self.known.set()
        self._nudge()

    def _updates(self) -> AsyncIterator[Snapshot | Patch]:
        return self._backend.watch(self.service)

    async def _look(self) -> None:
        found = await self._bounded(self._backend.lookup(self.service, self._last))
        self._live = True
        self._apply(found) if found is not None else self._flag(stale=False)

    def _confirm_until(self, moment: float) -> None:
        self.source.confirmed = max(self.source.confirmed, moment)

    async def _reconcile(self) -> None:
        """Compare with the registry now and then: servers lose events, too."""
        full = self._clock.monotonic() + self._pace.full_read
        while True:
            await self._clock.sleep(self._pace.reconcile * random.uniform(0.8, 1.2))  # noqa: S311  jitter
            # Who could not be told of the last change, for want of a thread, need not wait for another one.
            self._nudge()
            if not self._live or self._last is None:
                continue
            now = self._clock.monotonic()
            known = None if now >= full else self._last
            full = now + self._pace.full_read if known is None else full
            try:
                found = await self._bounded(self._backend.lookup(self.service, known))
            except Exception as error:  # noqa: BLE001  the watch goes on; the next comparison may answer
                self._doubt(error)
                continue
            if found is not None and self._live:
                self._compare(found)

    def _compare(self, found: Snapshot) -> None:
        last = self._last
        if last is None or found.revision.epoch != last.epoch or found.revision.counter < last.counter:
            # Either the store is another one by now, or a patch overtook the read: a fresh watch tells.
            self.cut()
            return
        self._apply(found)

    async def _confirm(self) -> None:
        """End each hold: after its time, with a second read that finds the same loss."""
        while (due := self._protection.due(self._clock.monotonic())) is not None:
            await self._clock.sleep(max(due, 0.01))
            if self._protection.due(self._clock.monotonic()) != 0.0:
                continue
            asked = frozenset(self._protection.held)
            try:
                found = await self._bounded(self._backend.lookup(self.service))
            except Exception as error:  # noqa: BLE001  whatever it is, it confirms nothing
                self._doubt(error)
                await self._clock.sleep(REACHABILITY.delay(5))
                continue
            self._release(found, asked)

    def _release(self, found: Snapshot | None, asked: frozenset[str]) -> None:
        """End the hold of those that were asked about; what was lost since waits for a read of its own."""
        present = {one.instance_id for one in found.instances if one.state == "up"} if found else set()
        answered = asked & self._protection.held.keys()
        lost = [name for name in answered if name not in present]
        for name in answered:
            self._protection.returned(name)
        self._change({}, lost, self._last)
        if not self._protection.held:
            self._emit(ProtectionEnded(self.service, confirmed=bool(lost)))

    def _apply(self, update: Snapshot | Patch) -> None:
        last = self._last
        same = last is not None and last.epoch == update.revision.epoch
        anew = last is not None and not same
        if last is not None and same and update.revision.counter < last.counter:
            if isinstance(update, Patch):
                # The records of some products are read later than the message says: it may know more than the comparison.
                raise Unavailable(f"a comparison of {self.service} was faster than its watch, which begins anew")
            # The product went back: it was wiped or restored.
            self._era += 1
            anew = True
        # A view from disk is one to protect as well: providers may be as slow to come back as their registry.
        first = not self.known.is_set()
        self._last = update.revision
        changed = {
            one.instance_id: one for one in (update.instances if isinstance(update, Snapshot) else update.changed)
        }
        visible = self.source.instances
        if isinstance(update, Snapshot):
            gone: list[str] = [name for name in visible if name not in changed]
        else:
            gone = [name for name in update.removed if name in visible]
        marked = [name for name, one in changed.items() if one.state == "leaving"]
        fresh = {name: one for name, one in changed.items() if one.state == "up" and visible.get(name) != one}
        self._settle(changed, marked, gone, fresh, first=first, anew=anew)
        self._report(update.rejected)

    def _settle(
        self,
        changed: dict[str, Instance],
        marked: list[str],
        gone: list[str],
        fresh: dict[str, Instance],
        *,
        first: bool,
        anew: bool,
    ) -> None:
        protection, before = self._protection, bool(self._protection.held)
        for name in changed:
            protection.returned(name)
        now = self._clock.monotonic()
        passed, held = (gone, []) if first else protection.sort(gone, self.source.instances, now, anew=anew)
        left = [name for name in marked if name in self.source.instances]
        self._change(fresh, [*left, *passed], self._last)
        if held and not before:
            self._emit(ProtectionStarted(self.service, tuple(held)))
        if before and not protection.held:
            self._emit(ProtectionEnded(self.service, confirmed=False))
        if protection.held and (self._confirming is None or self._confirming.done()):
            self._confirming = asyncio.create_task(self._confirm())

    def _change(self, fresh: dict[str, Instance], gone: Iterable[str], revision: Revision | None) -> None:
        """Bring the copy to its next state and let everybody know."""
        source, delta = self.source, Delta()
        protected = bool(self._protection.held)
        with source.locked():
            source.retire()
            for name in gone:
                delta.add(name, source.instances.pop(name, None), None)
            for name, one in fresh.items():
                delta.add(name, source.instances.get(name), one)
                source.instances[name] = one
            flags = source.stale or source.protected != protected
            source.stale, source.protected = False, protected
            source.confirmed = self._clock.monotonic()
            if revision is not None:
                source.revision = self._dated(revision)
            first = not self.known.is_set()
            for mailbox in self.mailboxes:
                mailbox.put_locked(delta, flags=flags or first)
        self.known.set()
        if delta or flags or first:
            self._nudge()
            self._tell(delta)

    def _dated(self, revision: Revision) -> Revision:
        return Revision(f"{revision.epoch}#{self._era}", revision.counter) if self._era else revision

    def _tell(self, delta: Delta) -> None:
        if self.changed is not None:
            self.changed(self)
        if self._wants(InstancesChanged):
            change: InstancesChange = delta.change(self.view())
            self._emit(InstancesChanged(change))

    def _flag(self, *, stale: bool) -> None:
        source = self.source
        with source.locked():
            if source.stale == stale:
                return
            source.retire()
            source.stale = stale
            for mailbox in self.mailboxes:
                mailbox.put_locked(Delta(), flags=True)
        self._nudge()

    def _report(self, rejected: Iterable[Rejected]) -> None:
        now = self._clock.monotonic()
        for one in rejected:
            if now - self._reported.get(one.record, -REPEAT_AFTER) < REPEAT_AFTER:
                continue
            if len(self._reported) > 1000:
                self._reported.clear()
            self._reported[one.record] = now
            logger.warning("the record %r of %s is not used: %s", one.record, self.service, one.reason)
            self._emit(RecordRejected(self.service, one.record, one.reason))
