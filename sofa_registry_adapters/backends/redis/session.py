"""One open store: an owner, its connections, and what it holds and watches."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sofa_registry_adapters.backends.redis.commands import Commands
from sofa_registry_adapters.backends.redis.connecting import Connector
from sofa_registry_adapters.backends.redis.failures import translating
from sofa_registry_adapters.backends.redis.keys import Keyspace, Path, joined, range_below, split
from sofa_registry_adapters.backends.redis.ownership import Holdings
from sofa_registry_adapters.backends.redis.scripting import Argument, Command, Script
from sofa_registry_adapters.backends.redis.subscriptions import Feed
from sofa_registry_adapters.backends.redis.watching import Watch
from sofa_registry_adapters.backends.redis.wire import (
    Change,
    Malformed,
    Position,
    Reading,
    State,
    parse_log,
    parse_reading,
    parse_state,
)
from sofa_registry_adapters.errors import Closed, Refused, RegistryError
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.spi.store import Bucket

DROP_SECONDS = 0.5
PING: Command = ("PING",)


class Session:
    """See the module. It is a `Reader` for watches."""

    def __init__(self, target: Target, connector: Connector, commands: Commands, scripts: Mapping[str, Script]) -> None:
        self.owner: str = secrets.token_hex(8)
        self.keyspace: Keyspace = Keyspace(target.text("prefix"), target.text("namespace"))
        self.commands = commands
        self.holdings: Holdings = Holdings()
        self.watches: set[Watch] = set()
        self.feed: Feed | None = None
        self._connector = connector
        self._scripts = scripts
        self._lease = target.number("lease")
        self._log_length = int(target.number("log_length"))
        self._connecting = asyncio.Lock()
        self._closed = False

    def call(self, script: str, path: Path, *arguments: Argument) -> Command:
        """The command that runs a script on a bucket, as this owner."""
        common = (self.owner, int(self._lease * 1000), self._log_length, secrets.token_hex(8))
        return self._scripts[script].call(self.keyspace.keys(path), *common, *arguments)

    def register(self, paths: Iterable[Path]) -> Command:
        """The command that puts buckets into the index."""
        return ("ZADD", self.keyspace.index, *(part for path in paths for part in (0, joined(path))))

    @contextlib.contextmanager
    def writing(self, paths: Iterable[Path]) -> Iterator[None]:
        """While a write to these buckets is under way, nothing about them can be concluded."""
        holdings = [self.holdings.of(path) for path in dict.fromkeys(paths)]
        for holding in holdings:
            holding.writing += 1
        try:
            yield
        finally:
            for holding in holdings:
                holding.writing -= 1
                holding.version += 1

    async def look(self, paths: Sequence[Path], *, reading: bool = False) -> Sequence[State]:
        """The state of buckets, their leases kept up and their dead owners swept."""
        answers = await self.commands.run([self.call("look", path, int(reading)) for path in paths])
        states = [
            parse_state(answer, self.home_of(path)) for path, answer in zip(paths, _accepted(answers), strict=True)
        ]
        if self.feed is not None and self.feed.home != self._connector.home:
            # Another server has taken over: what the one before it tells is of another history.
            await self.end_feed(self.feed)
        return states

    def home_of(self, path: Path) -> str:
        """The history that the last answer about a bucket was part of."""
        return self.commands.home_of(self.keyspace.keys(path)[0])

    async def read(self, path: Path, known: Revision | None) -> Reading | None:
        """One bucket; None if it is still at ``known``."""
        (state,) = await self.look((path,), reading=True)
        if known is not None and known == state.revision and known.epoch:
            return None
        readings = await self._read({path: state})
        return readings[path]

    async def read_all(self, bucket: Bucket, more: Iterable[Path] = ()) -> Mapping[Path, Reading]:
        paths = [bucket.path]
        if bucket.deep:
            paths = list(dict.fromkeys((bucket.path, *await self.paths_below(bucket.path), *more)))
        return await self._read(dict(zip(paths, await self.look(paths, reading=True), strict=True)))

    async def _read(self, states: Mapping[Path, State]) -> Mapping[Path, Reading]:
        commands: list[Command] = []
        for path in states:
            records, _, _, _, numbers, _ = self.keyspace.keys(path)
            look: Command = ("HMGET", numbers, "epoch", "rev", "nonce")
            commands += [look, ("HGETALL", records), look]
        answers = _accepted(await self.commands.run(commands))
        homes = {path: self.home_of(path) for path in states}
        readings = {}
        for (path, state), before, raws, after in zip(states.items(), answers, answers, answers, strict=True):
            # The server carried these out one after another, and nearly always with nothing in between. A script,
            # or a transaction, never has anything in between, but the one takes ten times as long while nobody
            # else is served, and the other is refused by a server that is full.
            fields, flat = (before, raws) if before == after else await self._read_slowly(path)
            place = (path, homes[path])
            readings[path] = await parse_reading(place, fields, flat, state.dead, self.owner)
        return readings

    async def _read_slowly(self, path: Path) -> tuple[Sequence[bytes | None], Sequence[bytes]]:
        fields, flat = await self.commands.one(self.call("read", path))
        return fields, flat

    async def changes(self, path: Path, position: Position) -> Sequence[Change] | None:
        where = (position.epoch, position.counter, position.nonce)
        answer = await self.commands.one(self.call("changes", path, *where))
        if self.home_of(path) != position.home:
            return None
        try:
            return parse_log(answer) if isinstance(answer, list) else None
        except Malformed:
            return None

    async def paths_below(self, path: Path) -> Sequence[Path]:
        """The buckets below ``path`` that have, or had, a record."""
        found = await self.commands.one(("ZRANGEBYLEX", self.keyspace.index, *range_below(path)))
        return [split(raw) for raw in found]

    async def tidy(self, empty: Sequence[Path]) -> None:
        """Take empty buckets out of the index. One that is filled meanwhile is put back."""
        if empty:
            with contextlib.suppress(Refused):
                await self.commands.one(("ZREM", self.keyspace.index, *map(joined, empty)))
                states = zip(empty, await self.look(empty), strict=True)
                if filled := [path for path, state in states if state.records]:
                    await self.commands.one(self.register(filled))

    async def join_feed(self) -> Feed:
        """The connection for messages, made if need be."""
        async with self._connecting:
            if self.feed is None or self.feed.error is not None:
                with translating(self._connector.where):
                    link = await self._connector.connect()
                patience = min(self._connector.call_timeout, max(1.0, self._lease / 3))
                self.feed = Feed(link, self._connector.where, self.keyspace.path_of, patience)
            if self._closed:
                await self.end_feed(self.feed)
                raise Closed("the store was closed")
            return self.feed

    async def end_feed(self, feed: Feed) -> None:
        """This connection for messages is of no use any more."""
        if self.feed is feed:
            self.feed = None
        await feed.close()

    async def close(self) -> None:
        """Drop what this owner has, and disconnect. Bounded; never raises."""
        self._closed = True
        if self.feed is not None:
            await self.end_feed(self.feed)
        drops = [self.call("drop", path) for path in self.holdings.paths()]
        with contextlib.suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(DROP_SECONDS):
                await self.commands.run(drops)
                paths = self.holdings.paths()
                states = zip(paths, await self.look(paths), strict=True)
                await self.tidy([path for path, state in states if not state.records])
        await self.commands.close()


def _accepted(answers: Sequence[Any]) -> Iterator[Any]:
    for answer in answers:
        if isinstance(answer, RegistryError):
            raise answer
        yield answer
