"""Persistent recursive watches, shared: by the readers of a bucket and by the records we hold in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.spi.flag import Flag
from sofa_registry_adapters.spi.store import RecordKey

GUARDED_ONE_BY_ONE = 8
"""With more own records in a bucket, one watch on the bucket replaces those on each of them."""

Send = Callable[[wire.Request], "asyncio.Future[wire.Answer]"]
Guarding = Callable[[], Awaitable[None]]
"""Waits until the server has answered that it guards. Raises `RegistryError`."""


class Feed:
    """The changes below one path, for one reader: paths to read again, until it is cut."""

    def __init__(self, path: str, *, deep: bool) -> None:
        self.path = path
        self._deep = deep
        self._depth = path.rstrip("/").count("/") + 1
        self._dirty: dict[str, None] = {}
        self._cause: RegistryError | None = None
        self._woken = Flag()

    def mark(self, path: str) -> None:
        """The node at the path changed."""
        if self._deep or path.count("/") == self._depth:
            self._dirty[path] = None
            self._woken.set()

    def cut(self, cause: RegistryError) -> None:
        """The watch is gone."""
        self._cause = cause
        self._woken.set()

    def mark_all(self, paths: Iterable[str]) -> None:
        """These were not read yet."""
        self._dirty = dict.fromkeys((*paths, *self._dirty))
        self._woken.set()

    async def next(self) -> list[str]:
        """The paths that changed since they were last asked for, at least one. Raises what it was cut with."""
        while True:
            await self._woken.wait()
            if paths := self.more():
                return paths

    def more(self) -> list[str]:
        """The paths that changed since, if any. Raises what it was cut with."""
        self._woken.clear()
        if self._cause is not None:
            raise self._cause
        paths = list(self._dirty)
        self._dirty.clear()
        return paths


class _Watched:
    """One watch on the server. ``since`` and ``quiet`` are changes: nothing happened below after ``quiet``."""

    __slots__ = ("armed", "feeds", "quiet", "uses")

    def __init__(self) -> None:
        self.uses = 0
        self.feeds: list[Feed] = []
        self.armed = False
        self.quiet = 0

    def arm(self, answer: wire.Answer) -> None:
        """The server watches."""
        if not self.armed:
            self.armed = True
            self.quiet = max(self.quiet, answer.zxid - 1)


class Watches:
    """All watches over one connection; a cut empties it, except for the list of what is guarded."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._guards: dict[RecordKey, str] = {}
        self._guarded: dict[tuple[str, ...], int] = {}

    async def subscribe(self, feed: Feed, send: Send) -> None:
        """Let the feed have every change from now on."""
        watched = self._use(feed.path)
        watched.feeds.append(feed)
        watched.arm(await send(wire.AddWatch(feed.path)))

    def unsubscribe(self, feed: Feed, send: Send) -> None:
        """End it, and the watch on the server if it was the last user."""
        watched = self._watched.get(feed.path)
        if watched is not None and feed in watched.feeds:
            watched.feeds.remove(feed)
            self._unuse(feed.path, send)

    def guard(self, records: Iterable[tuple[RecordKey, str, str]], send: Send) -> Guarding:
        """Be told when one of these records is deleted: key, path of the node, path of the bucket.

        It is asked of the server at once; what is returned waits for the answer.
        """
        fresh = [record for record in records if record[0] not in self._guards]
        for key, _, _ in fresh:
            self._guarded[key.bucket] = self._guarded.get(key.bucket, 0) + 1
        paths: dict[str, None] = {}
        for key, path, bucket in fresh:
            many = self._guarded[key.bucket] > GUARDED_ONE_BY_ONE
            self._guards[key] = bucket if many else path
            self._use(self._guards[key])
            paths[self._guards[key]] = None
        return self._arm_all(paths, send)

    def unguard(self, key: RecordKey, send: Send) -> None:
        """The record is none of ours any more."""
        path = self._guards.pop(key, None)
        if path is None:
            return
        self._guarded[key.bucket] -= 1
        if not self._guarded[key.bucket]:
            del self._guarded[key.bucket]
        self._unuse(path, send)

    async def rearm(self, send: Send) -> None:
        """Set the guards again after the connection was cut."""
        await self._arm_all(dict.fromkeys(self._guards.values()), send)()

    @property
    def guarding(self) -> bool:
        """Whether any record is guarded."""
        return bool(self._guards)

    def changed(self, path: str, zxid: int) -> None:
        """A change at the path, later than ``zxid``."""
        parent = path
        while True:
            watched = self._watched.get(parent or "/")
            if watched is not None:
                watched.quiet = zxid
                if parent != path:
                    for feed in watched.feeds:
                        feed.mark(path)
            if not parent or parent == "/":
                return
            parent = parent.rpartition("/")[0]

    def unchanged(self, path: str, zxid: int) -> bool:
        """Whether the path is watched and nothing below it changed after ``zxid``."""
        watched = self._watched.get(path)
        return watched is not None and watched.armed and zxid > watched.quiet

    def cut(self, cause: RegistryError) -> None:
        """The connection is gone, and all watches on the server with it."""
        for watched in self._watched.values():
            for feed in watched.feeds:
                feed.cut(cause)
        self._watched.clear()
        for path in self._guards.values():
            self._use(path)

    def _use(self, path: str) -> _Watched:
        watched = self._watched.setdefault(path, _Watched())
        watched.uses += 1
        return watched

    def _unuse(self, path: str, send: Send) -> None:
        watched = self._watched.get(path)
        if watched is None:
            return
        watched.uses -= 1
        if not watched.uses:
            del self._watched[path]
            send(wire.RemoveWatch(path))

    def _arm_all(self, paths: Iterable[str], send: Send) -> Guarding:
        found = [(path, watched) for path in paths if (watched := self._watched.get(path)) is not None]
        # What a cut has replaced meanwhile is not armed by an answer from before it.
        asked = [(watched, send(wire.AddWatch(path))) for path, watched in found if not watched.armed]

        async def answered() -> None:
            for watched, waiting in asked:
                watched.arm(await waiting)

        return answered
