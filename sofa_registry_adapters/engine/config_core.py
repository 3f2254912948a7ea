"""The engine of one ConfigCenter: a backend, mirrors of what is followed, a bus. It all runs on the reactor's loop."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import cast

import msgspec

from sofa_registry_adapters.engine.config_disk import ConfigDisk, SavedItem
from sofa_registry_adapters.engine.config_mirror import ConfigMirror
from sofa_registry_adapters.engine.defects import close_backend, told_as_defects
from sofa_registry_adapters.engine.disk import disk_of
from sofa_registry_adapters.engine.followers import SNAPSHOT_GRACE, Followers
from sofa_registry_adapters.engine.lifeline import Lifeline
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.mailbox import Events, Pending
from sofa_registry_adapters.engine.plugins import config_factory
from sofa_registry_adapters.engine.reactor import bounded
from sofa_registry_adapters.engine.snapshots import Snapshots, Work
from sofa_registry_adapters.engine.store_config import StoreConfig
from sofa_registry_adapters.errors import Conflict, InvalidArgument, Unavailable
from sofa_registry_adapters.model.config import ABSENT, Absent, ConfigChange, ConfigItem, ConfigKey
from sofa_registry_adapters.model.events import ConfigLooped, ConfigSnapshotFailed
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.config import ConfigBackend, ConfigDraft
from sofa_registry_adapters.spi.options import BackendType, Target
from sofa_registry_adapters.spi.store import RecordStore

CLOSE_WITHIN = 2.0
LOOP = 5
"""Publications of a key by its own listener, within `LOOP_SECONDS`, that are taken for a loop."""
LOOP_SECONDS = 5.0
LOOKED_THROUGH = 1000
"""Values of the history in which `rollback` looks for a revision."""


class Times(msgspec.Struct, frozen=True):
    """The options that are times, in seconds."""

    call_timeout: float
    reconcile: float
    poll: float

    @classmethod
    def of(cls, target: Target) -> Times:
        """From the options of a target."""
        return cls(*(target.number(name) for name in cls.__struct_fields__))


class Revisions:
    """Revisions as callers see them: with the product in front, so that another product's is recognised."""

    def __init__(self, product: str) -> None:
        self._prefix = f"{product}:"

    def mark(self, item: ConfigItem) -> ConfigItem:
        """The item with the revision that callers see."""
        return msgspec.structs.replace(item, revision=self.seen(item.revision))

    def seen(self, revision: str) -> str:
        """The revision as callers see it."""
        return self._prefix + revision

    def bare(self, revision: str) -> str:
        """The revision as the backend knows it. Raises `InvalidArgument` for one of another product."""
        if not revision.startswith(self._prefix) or revision == self._prefix:
            raise InvalidArgument(
                f"{revision!r} is no revision of this config center: one begins with {self._prefix!r}; "
                "take it from an item that was read here"
            )
        return revision.removeprefix(self._prefix)

    def expected(self, revision: str | Absent | None) -> str | Absent | None:
        """An expectation as the backend knows it."""
        return self.bare(revision) if isinstance(revision, str) else revision

    def conflict(self, error: Conflict) -> Conflict:
        """The same conflict, with revisions that callers see."""
        text = str(error)
        seen: dict[str, str | None] = {}
        for name in ("expected", "present"):
            revision: str | None = getattr(error, name)
            seen[name] = revision if revision is None else self.seen(revision)
            if revision:
                text = text.replace(revision, self.seen(revision))
        return Conflict(text, **seen)


class ConfigEngine:
    """What a ConfigCenter does, as coroutines. Each verb is bounded by its ``timeout``, in seconds."""

    def __init__(self, backend: ConfigBackend, product: str, target: Target, clock: Clock, events: Events) -> None:
        self.backend = backend
        self.times: Times = Times.of(target)
        self.name: str = str(target)
        self._clock = clock
        self._events = events
        self._revisions = Revisions(product)
        self._author = _author()
        self._disk = disk_of(target, ConfigDisk)
        self._snapshots: Snapshots[ConfigKey, SavedItem] = Snapshots(
            self._disk.load if self._disk is not None else None,
            clock,
            lambda key, reason: events.emit(ConfigSnapshotFailed(key, reason)),
        )
        self._link = Link(self.name, clock, events.emit, what="config center")
        self._lifeline = Lifeline(backend, self.name, self.times.call_timeout, clock, self._link)
        self._mirrors: Followers[ConfigKey, ConfigMirror] = Followers(
            self._lifeline, self._mirror, self._preload if self._snapshots.enabled else None
        )
        self._lifeline.doubted = self._mirrors.cut
        self._loops: dict[ConfigKey, deque[float]] = {}
        self._closing: asyncio.Task[None] | None = None

    # Life.

    async def start(self) -> None:
        """Begin to connect; does not wait for it."""
        self._lifeline.start()

    async def close(self) -> None:
        """Disconnect, within two seconds, whatever the config center does."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._mirrors.close_mailboxes()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN * 0.2):
                await self._snapshots.flush()
        await self._lifeline.stop()
        await self._mirrors.stop()
        await close_backend(self.backend, self.name, CLOSE_WITHIN * 0.5)
        self._snapshots.stop()

    # Reading and writing.

    async def get(self, key: ConfigKey, timeout: float) -> ConfigItem | None:
        """The value now; the last known good, stale, if the center cannot be reached."""
        began = asyncio.get_running_loop().time()
        try:
            if (early := await self._get_without(key, min(timeout, SNAPSHOT_GRACE))) is not None:
                return early
            async with self._connected(timeout, f"reading {key}", began):
                found = await self.backend.get(key)
        except Unavailable:
            item = await self._last_known(key)
            if item is None:
                raise
            return item
        item = self._revisions.mark(found) if isinstance(found, ConfigItem) else None
        # What the center lost stays on disk.
        if self._mirrors.find(key) is None and found is not ABSENT:
            self._save_soon(key, lambda: item)
        return item

    async def _get_without(self, key: ConfigKey, grace: float) -> ConfigItem | None:
        """The last known good, if the center is found to be away within a moment: to wait longer gives nothing new."""
        try:
            await self._lifeline.wait_ready(grace)
        except Unavailable:
            return None if self._link.up else await self._last_known(key)
        return None

    async def _last_known(self, key: ConfigKey) -> ConfigItem | None:
        mirror = self._mirrors.find(key)
        if mirror is not None and mirror.known.is_set():
            item = mirror.source.shown()
            return None if item is None else msgspec.structs.replace(item, stale=True)
        saved = None
        # A disk that hangs is no reason to wait longer than for the center.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SNAPSHOT_GRACE):
                saved = await self._snapshots.load(key)
        return None if saved is None else saved.item

    async def publish(
        self, key: ConfigKey, draft: ConfigDraft, expected: str | Absent | None, timeout: float, *, looping: bool
    ) -> str:
        """Write the value; its revision. ``looping``: a listener of the key does it."""
        bare = self._revisions.expected(expected)
        if looping:
            self._note_loop(key)
        draft = msgspec.structs.replace(draft, author=self._author)
        async with self._connected(timeout, f"publishing {key}"):
            return self._revisions.seen(await self.backend.publish(key, draft, bare))

    async def remove(self, key: ConfigKey, expected: str | None, timeout: float) -> bool:
        """Remove the value; whether there was one."""
        bare = None if expected is None else self._revisions.bare(expected)
        async with self._connected(timeout, f"removing {key}"):
            return await self.backend.remove(key, bare, self._author)

    async def keys(self, group: str, timeout: float) -> Sequence[str]:
        """The keys of the group that have a value."""
        async with self._connected(timeout, f"listing the keys of {group}"):
            return await self.backend.keys(group)

    async def history(self, key: ConfigKey, limit: int, timeout: float) -> Sequence[ConfigItem]:
        """The last values, the newest first."""
        async with self._connected(timeout, f"reading the history of {key}"):
            return [self._revisions.mark(item) for item in await self.backend.history(key, limit)]

    async def rollback(
        self, key: ConfigKey, revision: str | None, expected: str | Absent | None, timeout: float, *, looping: bool
    ) -> str:
        """Publish an earlier value again; without a revision the one before the present value."""
        if looping:
            self._note_loop(key)
        wanted = None if revision is None else self._revisions.bare(revision)
        demanded = self._revisions.expected(expected)
        async with self._connected(timeout, f"rolling {key} back"):
            found = await self.backend.get(key) if revision is None else None
            values = await self.backend.history(key, LOOKED_THROUGH)
            present = found.revision if isinstance(found, ConfigItem) else None
            earlier = [one for one in values if one.revision == wanted or (wanted is None and one.revision != present)]
            if not earlier:
                named = "value before the present one" if revision is None else f"value of the revision {revision!r}"
                raise InvalidArgument(f"there is no {named} in the history of {key}")
            if revision is None and expected is None:
                # What was looked at is what is replaced, and nothing that came meanwhile.
                demanded = present or ABSENT
            draft = ConfigDraft(earlier[0].content, earlier[0].content_type, self._author)
            return self._revisions.seen(await self.backend.publish(key, draft, demanded))

    @contextlib.asynccontextmanager
    async def _connected(self, timeout: float, doing: str, began: float | None = None) -> AsyncIterator[None]:
        """What is done once the backend is open, all within ``timeout``. Conflicts get revisions that callers know."""
        loop = asyncio.get_running_loop()
        deadline = timeout + (loop.time() if began is None else began)
        await self._lifeline.wait_ready(max(0.001, deadline - loop.time()), timeout)
        try:
            async with bounded(max(0.0, deadline - loop.time()), doing, timeout):
                with told_as_defects(self.name, doing):
                    yield
        except Conflict as error:
            raise self._revisions.conflict(error) from None

    def _note_loop(self, key: ConfigKey) -> None:
        """A listener of the key publishes the key: once may be wise, again and again calls itself for ever."""
        now = self._clock.monotonic()
        moments = self._loops.setdefault(key, deque(maxlen=LOOP))
        moments.append(now)
        seconds = now - moments[0]
        if len(moments) == LOOP and seconds <= LOOP_SECONDS:
            moments.clear()
            logger.warning(
                "a listener of %s published that key %d times in %.1f s, and is called for each: it may never end",
                key,
                LOOP,
                seconds,
            )
            self._events.emit(ConfigLooped(key, LOOP, seconds))

    # Following.

    async def attach(self, key: ConfigKey, timeout: float, *, required: bool) -> Pending[ConfigChange]:
        """Follow the key; what it has is known, or, unless ``required``, will be later."""
        return await self._mirrors.attach(key, timeout, required=required)

    async def wait_known(self, key: ConfigKey, seconds: float) -> None:
        """Until something is known of a key that is followed, or the seconds are over."""
        mirror = self._mirrors.find(key)
        if mirror is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await mirror.known.wait()

    def _mirror(self, key: ConfigKey) -> ConfigMirror:
        mirror = ConfigMirror(key, self.backend, self.times, self._clock, self._events)
        mirror.mark = self._revisions.mark
        mirror.changed = lambda one: self._save_soon(one.key, one.source.shown)
        return mirror

    async def _preload(self, mirror: ConfigMirror) -> None:
        saved = await self._snapshots.load(mirror.key)
        if saved is not None:
            mirror.preload(saved.item)

    def _save_soon(self, key: ConfigKey, look: Callable[[], ConfigItem | None]) -> None:
        self._snapshots.save_soon(key, lambda: self._to_save(key, look()))

    def _to_save(self, key: ConfigKey, item: ConfigItem | None) -> Work | None:
        if self._disk is None:
            return None
        if item is None:
            return partial(self._disk.forget, key)
        return None if item.stale else partial(self._disk.save, item, self._clock.wall_ms())


def config_engine(backend: BackendType, target: Target, clock: Clock, events: Events) -> Callable[[], ConfigEngine]:
    """How to make the engine on its own loop. The client library is imported here, in the caller's thread."""
    make = config_factory(backend)

    def engine() -> ConfigEngine:
        product = make(target, clock)  # type: ignore[operator]
        whole = StoreConfig(cast("RecordStore", product), clock) if backend.load_config is None else product
        return ConfigEngine(cast("ConfigBackend", whole), backend.schemes[0], target, clock, events)

    return engine


def _author() -> str:
    """Who publishes, for the history: user, machine, process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "?"
    # A name from the environment may have bytes that are no text.
    return f"{user}@{socket.gethostname()}:{os.getpid()}".encode("utf-8", "replace").decode()
