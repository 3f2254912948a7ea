"""Nacos as a config center: values in its database, listening on its connection, history from its HTTP interface."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from sofa_registry_adapters.backends.nacos import CAPABILITIES, namespace
from sofa_registry_adapters.backends.nacos.config_archive import Archive
from sofa_registry_adapters.backends.nacos.config_lines import Line, line_of
from sofa_registry_adapters.backends.nacos.config_values import Held, Place
from sofa_registry_adapters.backends.nacos.config_watching import Listening
from sofa_registry_adapters.backends.nacos.connection import Connection
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.model.config import ABSENT, Absent, ConfigItem, ConfigKey
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.config import ConfigBackend, ConfigDraft
from sofa_registry_adapters.spi.options import Capabilities, Target
from sofa_registry_adapters.spi.registry import Rejected

AT_ONCE = 16
"""Watches that are being opened at a time."""


class NacosConfig(ConfigBackend):
    """See the module, and `config_lines` for how values are read and written.

    What Nacos leaves open: the server knows a condition by the digest of the content only. That no value of the same content came, went and
    came again is compared a moment before, as is the condition of a removal; and a value that vanishes in that moment is created.
    """

    def __init__(self, target: Target, clock: Clock) -> None:
        named = namespace(target)
        self._tenant = "" if named == "public" else named
        self._listening = Listening(self._tenant)
        pushed = {"ConfigChangeNotifyRequest": self._listening.pushed}
        self._transport = Transport(target, clock, "config", pushed)
        self._opening = asyncio.Semaphore(AT_ONCE)
        self._on: Connection | None = None
        self._line: Line | None = None
        # What the last renewal found. Not the one above: a line is asked for again by whoever reads next.
        self._alive: Connection | None = None

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def open(self) -> None:
        await self._transport.open()
        await self._known_line()
        self._alive = self._on

    async def close(self) -> None:
        await self._listening.close()
        await self._transport.close()

    async def renew(self) -> None:
        async with self._transport.answering() as connection:
            self._alive = connection
            await self._transport.probe(connection)

    async def lost(self) -> None:
        if self._alive is None:
            await super().lost()
        else:
            await self._alive.gone.wait()

    async def get(self, key: ConfigKey) -> ConfigItem | Absent | None:
        place = self._place(key)
        line = await self._known_line()
        return await self._told(line, place, await line.read(place))

    async def publish(self, key: ConfigKey, draft: ConfigDraft, expected: str | Absent | None) -> str:
        return await (await self._known_line()).publish(self._place(key), draft, expected)

    async def remove(self, key: ConfigKey, expected: str | None, author: str = "") -> bool:
        return await (await self._known_line()).remove(self._place(key), expected)

    async def keys(self, group: str) -> Sequence[str]:
        place = self._place(ConfigKey("any", group))
        return await Archive(self._transport, await self._known_line()).keys(place.group, self._tenant)

    async def history(self, key: ConfigKey, limit: int) -> Sequence[ConfigItem]:
        return await Archive(self._transport, await self._known_line()).history(self._place(key), limit)

    async def watch(self, key: ConfigKey) -> AsyncIterator[ConfigItem | Rejected | Absent | None]:
        place = self._place(key)
        async with contextlib.aclosing(self._listening.changes(self._transport, place)) as changes:
            # A few at a time: if thousands share the server none of them has a value before all have.
            async with self._opening:
                line = await self._known_line()
                await anext(changes)
                known = await line.read(place)
                first = await self._told(line, place, known)
            yield first
            async for _ in changes:
                held = await line.read(place)
                if _revision(held) != _revision(known):
                    known = held
                    yield await self._told(line, place, held)

    async def _told(self, line: Line, place: Place, held: Held | None) -> ConfigItem | Absent | None:
        if held is not None:
            return held.item
        return None if await Archive(self._transport, line).was_removed(place) else ABSENT

    def _place(self, key: ConfigKey) -> Place:
        return Place.of(key, self._tenant)

    async def _known_line(self) -> Line:
        """The line of the server; asked again on a new connection, since servers are upgraded."""
        connection = await self._transport.connection()
        if self._line is None or connection is not self._on:
            line = await line_of(self._transport, self._tenant)
            self._on, self._line = connection, line
        return self._line


def _revision(held: Held | None) -> str | None:
    return None if held is None else held.item.revision
