"""What only the HTTP interface has: the keys of a group, and what the values of a key were."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from sofa_registry_adapters.backends.nacos.config_lines import Line
from sofa_registry_adapters.backends.nacos.config_values import (
    Place,
    item,
    kind,
    mark_in,
    noted_author,
    noted_kind,
    revision,
)
from sofa_registry_adapters.backends.nacos.config_web import INSERTED, PAGE, REMOVED, ConfigWeb, Entry
from sofa_registry_adapters.backends.nacos.names import config_key
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.errors import Denied, Refused, Unavailable
from sofa_registry_adapters.model.config import ConfigItem

AT_ONCE = 8
"""Entries that are read at a time."""
SPARE = {2: 10, 3: 2}
"""Entries a value: one for each write and removal, and on line 2 one for each condition that did not hold."""


class Archive:
    """See the module."""

    def __init__(self, transport: Transport, line: Line) -> None:
        self._where = transport.where
        self._line = line
        self._web = ConfigWeb(transport, line.number)

    async def keys(self, group: str, tenant: str) -> Sequence[str]:
        """The keys of the group that a `ConfigKey` can have, sorted."""
        found: set[str] = set()
        page = 1
        while True:
            names = await self._web.names(group, tenant, page)
            found.update(key for name in names if (key := config_key(name)) is not None)
            if len(names) < PAGE:
                return sorted(found)
            page += 1

    async def was_removed(self, place: Place) -> bool:
        """Whether anything is known to have happened to the value. True where the server does not tell."""
        try:
            return bool(await self._web.entries(place, 1))
        except (Denied, Refused):
            return True

    async def history(self, place: Place, limit: int) -> Sequence[ConfigItem]:
        """The present value, then those before it, the newest first."""
        entries = await self._web.entries(place, SPARE[self._line.number] * limit + 1)
        held = await self._line.read(place)
        present = [] if held is None else [_by(held.item, entries)]
        replaced = [number for number, one in enumerate(entries) if one.kind != INSERTED]
        if self._line.number == 2:
            values = await self._values(place, entries, replaced)
            before = _distinct(present, values, [entries[number].kind for number in replaced])
        else:
            before = await self._values(place, entries, replaced[: limit - len(present)])
        return [*present, *before][:limit]

    async def _values(self, place: Place, entries: Sequence[Entry], numbers: Sequence[int]) -> Sequence[ConfigItem]:
        places = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(self._value(place, entries, number, places) for number in numbers))

    async def _value(
        self, place: Place, entries: Sequence[Entry], number: int, places: asyncio.Semaphore
    ) -> ConfigItem:
        """The value that this entry replaced; when and by whom it was written, the entry before says."""
        async with places:
            entry = await self._web.entry(place, entries[number].id)
        if entry is None:
            raise Unavailable(f"{self._where} has just thrown away an entry of the history of {place.key}")
        origin = entries[number + 1] if number + 1 < len(entries) else Entry(id="")
        told_apart = (self._line.number == 3 and mark_in(entry.encrypted_data_key)) or origin.milliseconds
        more = {
            "content_type": noted_kind(origin.src_user) or kind(entry.type),
            "author": noted_author(origin.src_user),
        }
        return item(place, entry.content, revision(entry.md5, told_apart), origin.milliseconds, **more)


def _by(present: ConfigItem, entries: Sequence[Entry]) -> ConfigItem:
    author = present.author or noted_author(entries[0].src_user if entries else None)
    return msgspec.structs.replace(present, author=author)


def _distinct(
    present: Sequence[ConfigItem], before: Sequence[ConfigItem], kinds: Sequence[str]
) -> Sequence[ConfigItem]:
    """Without repetitions: line 2 makes an entry of a write whose condition did not hold, too. The first writer counts.

    One that lost to two others at a time may be listed: its entry is made after theirs.
    """
    kept: list[ConfigItem] = []
    newer = present[0].content if present else None
    for one, kind_of_entry in zip(before, kinds, strict=True):
        if kind_of_entry == REMOVED or one.content != newer:
            kept.append(one)
        elif kept:
            kept[-1] = one
        newer = one.content
    return kept
