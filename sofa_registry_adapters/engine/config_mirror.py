"""One followed configuration key: its last good value, whatever happens to the center, and who wants to know of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from sofa_registry_adapters.engine.follower import Follower, Pace
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.mailbox import Events, Pending
from sofa_registry_adapters.errors import CorruptRecord
from sofa_registry_adapters.model.config import Absent, ConfigChange, ConfigItem, ConfigKey
from sofa_registry_adapters.model.events import ConfigChanged, ConfigRejected
from sofa_registry_adapters.model.guarded import Guarded
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.config import ConfigBackend
from sofa_registry_adapters.spi.registry import Rejected

Update = ConfigItem | Rejected | Absent | None
REPEAT_AFTER = 60.0
"""Seconds before the same rejection is reported again."""
LOST = "it is missing, and was not removed: the config center lost it"


class ConfigSource(Guarded):
    """The newest good value of a key. One thread changes it, any reads it. ``revision`` is as the backend has it."""

    def __init__(self, key: ConfigKey) -> None:
        super().__init__()
        self.key = key
        self.item: ConfigItem | None = None
        self.stale = False

    def shown_locked(self) -> ConfigItem | None:
        """The value as callers see it, for who holds the lock."""
        if self.item is None or self.item.stale == self.stale:
            return self.item
        return msgspec.structs.replace(self.item, stale=self.stale)

    def shown(self) -> ConfigItem | None:
        """The value as callers see it. Any thread."""
        with self.locked():
            return self.shown_locked()


class ConfigMailbox(Pending[ConfigChange]):
    """The changes of one key that one listener has not seen yet: only the last of them counts."""

    def __init__(self, source: ConfigSource, forget: Callable[[Any], None], *, known: bool) -> None:
        super().__init__(source, source.key, forget, known=known)
        self._source = source
        self._seen: ConfigItem | None = None
        self._told = False

    @property
    def stale(self) -> bool:
        """Whether the center cannot confirm what was taken, or nothing was."""
        return not self._told or self._source.stale

    def put_locked(self) -> None:
        """Under the source's lock: the value may be another."""
        self._news = not self._told or _revision(self._source.item) != _revision(self._seen)

    def _take_locked(self) -> ConfigChange:
        previous, self._told = self._seen, True
        self._seen = self._source.shown_locked()
        return ConfigChange(self._source.key, self._seen, previous)


class ConfigMirror(Follower[Update]):
    """See the module. ``mark`` gives an item of the backend the revision that callers see."""

    def __init__(self, key: ConfigKey, backend: ConfigBackend, pace: Pace, clock: Clock, bus: Events) -> None:
        super().__init__(key, pace, clock, push=backend.capabilities.push)
        self.key = key
        self.source: ConfigSource = ConfigSource(key)
        self.mark: Callable[[ConfigItem], ConfigItem] = lambda item: item
        self.changed: Callable[[ConfigMirror], None] | None = None
        self._backend = backend
        self._bus = bus
        self._answer: str | None = None
        """The revision of the center's last answer; None if it has no value."""
        self._reported: tuple[str, float] = ("", 0.0)

    def open_mailbox(self, forget: Callable[[Any], None]) -> ConfigMailbox:
        return ConfigMailbox(self.source, forget, known=self.known.is_set())

    def preload(self, item: ConfigItem) -> None:
        """Start from a value that was saved, unless the center was faster."""
        if not self.known.is_set():
            self._change(item, stale=True)

    def _works(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (self._follow, self._reconcile)

    def _updates(self) -> AsyncIterator[Update]:
        return self._backend.watch(self.key)

    async def _look(self) -> None:
        update = await self._bounded(self._read())
        self._live = True
        self._apply(update)

    async def _read(self) -> Update:
        try:
            return await self._backend.get(self.key)
        except CorruptRecord as error:
            return Rejected(str(self.key), str(error))

    def _confirm_until(self, moment: float) -> None:
        """A value has no age; that it is stale is all that callers see."""

    def _apply(self, update: Update) -> None:
        if isinstance(update, ConfigItem):
            self._answer = update.revision
            self._change(self.mark(update), stale=False)
            return
        self._answer = None
        if isinstance(update, Rejected):
            self.error = CorruptRecord(f"{self.key}: {update.reason}")
            self._keep(update.reason)
        elif update is not None and self.source.item is not None:
            self._keep(LOST)
        else:
            self._change(None, stale=False)

    def _keep(self, reason: str) -> None:
        """What the center says cannot be used: the last good value stays, if there is one."""
        if self.known.is_set():
            self._flag(stale=True)
        now = self._clock.monotonic()
        if self._reported[0] != reason or now - self._reported[1] > REPEAT_AFTER:
            self._reported = reason, now
            logger.warning("the value of %s is not used: %s", self.key, reason)
            self._bus.emit(ConfigRejected(self.key, reason))

    def _change(self, item: ConfigItem | None, *, stale: bool) -> None:
        source = self.source
        with source.locked():
            before = source.item
            source.item, source.stale = item, stale
            self._put_locked()
        self._reported = ("", 0.0)
        first = not self.known.is_set()
        self.known.set()
        self._nudge()
        if first or _revision(before) != _revision(item):
            self._tell(before)

    def _tell(self, before: ConfigItem | None) -> None:
        if self.changed is not None:
            self.changed(self)
        if self._bus.wanted(ConfigChanged):
            self._bus.emit(ConfigChanged(ConfigChange(self.key, self.source.shown(), before)))

    def _flag(self, *, stale: bool) -> None:
        with self.source.locked():
            self.source.stale = stale

    def _put_locked(self) -> None:
        for mailbox in self.mailboxes:
            mailbox.put_locked()

    async def _reconcile(self) -> None:
        """Compare with the center now and then: servers lose events, too. A difference makes the watch begin anew."""
        while True:
            await self._clock.sleep(self._times.reconcile * random.uniform(0.8, 1.2))  # noqa: S311  jitter
            # Who could not be told of the last change, for want of a thread, need not wait for another one.
            self._nudge()
            if not self._live:
                continue
            before = self._answer
            try:
                found = await self._bounded(self._read())
            except Exception as error:  # noqa: BLE001  the watch goes on; the next comparison may answer
                self._doubt(error)
                continue
            # What the watch told meanwhile is newer than the read.
            if self._answer == before and _answered(found) != before:
                self.cut()


def _revision(item: ConfigItem | None) -> str | None:
    return None if item is None else item.revision


def _answered(update: Update) -> str | None:
    return update.revision if isinstance(update, ConfigItem) else None
