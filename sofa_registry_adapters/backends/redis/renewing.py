"""Staying alive, and noticing what is amiss: one round trip a call, a few microseconds of the server a bucket."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sofa_registry_adapters.backends.redis.keys import Path, decode
from sofa_registry_adapters.backends.redis.ownership import Holding, Rounds
from sofa_registry_adapters.backends.redis.session import PING, Session
from sofa_registry_adapters.backends.redis.wire import State
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.store import RecordKey

AT_ONCE = 50
"""Buckets that every call looks at; of more than these, each is looked at in one call of two."""


class Renewal:
    """What `RecordStore.renew` does for one open store.

    The server extends a lease when a third of it has passed. A bucket with a watch is looked at as well: it sweeps
    owners that died where nobody else is left to do it, and tells the watch if it missed a message.
    """

    def __init__(self, session: Session, clock: Clock, lease: float) -> None:
        self._session = session
        self._clock = clock
        self._lease = lease
        self._rounds = Rounds(AT_ONCE)
        self._complete = clock.monotonic()

    async def run(self) -> Collection[RecordKey]:
        """One call. The answer has own records that are gone."""
        now = self._clock.monotonic()
        everything = now - self._complete >= self._lease / 4
        paths = self._paths()
        chosen = self._rounds.turn(paths, everything=everything)
        if await self._look(chosen):
            # One bucket lost our lease: most probably all did.
            rest = frozenset(chosen)
            await self._look([path for path in paths if path not in rest])
        if everything:
            await self._register()
            self._complete = now
        await self._probe(now)
        return self._session.holdings.missing()

    def _paths(self) -> Sequence[Path]:
        watched = (path for watch in self._session.watches for path in watch.positions)
        return tuple(dict.fromkeys((*self._session.holdings.paths(), *watched)))

    async def _look(self, paths: Sequence[Path]) -> bool:
        """Look at buckets; whether one of them has lost our lease with all that was in it."""
        session = self._session
        if not paths:
            await session.commands.one(PING)
            return False
        # Those that break from here on are looked into next time.
        cuts = session.commands.cuts
        versions = session.holdings.versions(paths)
        states = dict(zip(paths, await session.look(paths), strict=True))
        for watch in tuple(session.watches):
            for path in watch.positions.keys() & states.keys():
                watch.hear(path, states[path].revision)
        lost = False
        for path, version in versions.items():
            holding, state = session.holdings.get(path), states[path]
            if holding is None or holding.version != version or holding.writing:
                continue
            lost |= bool(holding.revisions) and not state.leased
            await self._judge(path, holding, state, cuts)
        for path, state in states.items():
            if state.held and session.holdings.get(path) is None:
                # Deleted, forgotten, and there again: the next call looks into it.
                session.holdings.of(path)
        return lost

    async def _judge(self, path: Path, holding: Holding, state: State, cuts: int) -> None:
        if not state.leased:
            holding.settle(state, {}, cuts)
        elif holding.doubts(state, cuts):
            version = holding.version
            flat = iter(await self._session.commands.one(self._session.call("own", path)))
            if holding.version == version and not holding.writing:
                present = {decode(name): decode(revision) for name, revision in zip(flat, flat, strict=True)}
                holding.settle(state, present, cuts)
        if holding.over and not state.held:
            self._session.holdings.forget(path)

    async def _register(self) -> None:
        """Put the index right, should the server have lost it; a server that refuses has most of it."""
        if paths := self._session.holdings.paths():
            await self._session.commands.run([self._session.register(paths)])

    async def _probe(self, now: float) -> None:
        feed = self._session.feed
        if feed is None:
            return
        try:
            await feed.probe(now)
        except Unavailable:
            await self._session.end_feed(feed)
            raise
