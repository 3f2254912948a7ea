"""Reading and writing values of configuration, from their database or from a copy of it.

A server writes to a database, and answers over gRPC from a copy that is a tenth of a second behind (1.1 s at worst, measured). Over HTTP it
reads the database itself: so reads show every write at once, and each has a time that the history has, too. That is how values are read
(`FromDatabase`), unless the server is of line 3, has no accounts for its clients, but wants one for this part of its HTTP interface, which is how
it comes from its makers. Then values are read from the copy (`FromCopy`), and a write is done when the copy shows it.

Each write leaves a mark. On line 3 it is the revision, in the copy and in the history alike; its place is the column ``encrypted_data_key``, which
means nothing to anybody unless the data id begins with ``cipher-``. What others have written has the time in its revision instead.

Line 2 (2.2.4, measured) does not write that column each time, so the time is the revision there. And with its embedded database it says yes to
a write whose condition did not hold: whether it did is told by the mark, in the column ``schema``, with those of the writes before it, so that it is seen
even if the value has been replaced since. An unconditional write is one on the condition that nothing changed since a look, made
again until that holds: of two at a time the server would otherwise keep only one in its history.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping

from sofa_registry_adapters.backends.nacos import wire
from sofa_registry_adapters.backends.nacos.config_values import (
    Held,
    Place,
    Queried,
    conflict,
    digest,
    item,
    kind,
    mark_in,
    new_mark,
    noted,
    noted_author,
    noted_kind,
    revision,
    sent_kind,
)
from sofa_registry_adapters.backends.nacos.config_web import ConfigWeb
from sofa_registry_adapters.backends.nacos.failures import refusal
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.errors import DeadlineExceeded, Denied, InvalidArgument
from sofa_registry_adapters.model.config import ABSENT, Absent
from sofa_registry_adapters.spi.config import ConfigDraft

ABSENT_CODE = 300
BUSY_CODE = 400
"""The copy is just being written; of a write: the server does not take such a value."""
FAILED_CODE = 500
LOOK = 0.02
"""Seconds between two looks at the copy."""
SETTLED = 1.5
"""Seconds after a write in which the copy has it: what it shows then without it is newer."""
MARKS = 8
"""Marks that are kept. More writes do not fit between a write and the look at its mark."""
SUPERSEDED = "0"
"""In the revision of a value that was replaced before it could be seen; no present value has it."""


class Line(ABC):
    """Reading and writing, as one server has it. ``number`` is its line."""

    def __init__(self, transport: Transport, number: int) -> None:
        self.number = number
        self._transport = transport

    @abstractmethod
    async def read(self, place: Place) -> Held | None:
        """The present value, or one that was there a moment ago and after all writes of our own."""

    @abstractmethod
    async def publish(self, place: Place, draft: ConfigDraft, expected: str | Absent | None) -> str:
        """As `ConfigBackend.publish`."""

    async def remove(self, place: Place, expected: str | None) -> bool:
        """As `ConfigBackend.remove`. The server knows no condition for it: it is compared here, a moment before."""
        before = await self.read(place)
        _compare(place, expected, before)
        await self._transport.ask("ConfigRemoveRequest", place.request(), wire.Answer)
        if before is not None:
            await self._see_removed(place, before)
        return before is not None

    @abstractmethod
    async def _see_removed(self, place: Place, before: Held) -> None:
        """Return when reads do not show that value any more."""

    async def _put(
        self, place: Place, draft: ConfigDraft, expected: str | Absent | None, more: Mapping[str, str]
    ) -> bool:
        """Write; whether the server says that its condition held, and that nobody else has just created the value."""
        about = {"type": sent_kind(draft.content_type), "src_user": noted(draft, self.number), **more}
        body = place.request(content=_text(draft), additionMap={name: text for name, text in about.items() if text})
        if expected is not None:
            body["casMd5"] = digest(expected)
        answer = await self._transport.ask("ConfigPublishRequest", body, wire.Answer, accept=(BUSY_CODE, FAILED_CODE))
        if answer.result_code == 200:
            return True
        if answer.error_code == BUSY_CODE:
            raise InvalidArgument(f"{self._transport.where} does not take the value of {place.key}: {_said(answer)}")
        if _is_conflict(answer):
            return False
        raise refusal(answer, self._transport.where, "ConfigPublishRequest")


class FromDatabase(Line):
    """See the module."""

    def __init__(self, transport: Transport, number: int) -> None:
        super().__init__(transport, number)
        self._web = ConfigWeb(transport, number)

    async def read(self, place: Place) -> Held | None:
        row = await self._web.value(place)
        if row is None:
            return None
        told_apart = (self.number == 3 and mark_in(row.encrypted_data_key)) or row.modify_time
        more = {"content_type": noted_kind(row.create_user) or kind(row.type), "author": noted_author(row.create_user)}
        found = item(place, row.content, revision(row.md5, told_apart), row.modify_time, **more)
        return Held(found, row.modify_time, (row.schema or "").split())

    async def publish(self, place: Place, draft: ConfigDraft, expected: str | Absent | None) -> str:
        while True:
            before = await self.read(place)
            _compare(place, expected, before)
            demanded = expected or (before.item.revision if before is not None else ABSENT)
            attempt = self._attempt_2 if self.number == 2 else self._attempt_3
            if (revised := await attempt(place, draft, demanded, before)) is not None:
                return revised
            if expected is not None:
                raise conflict(place, expected, await self.read(place))

    async def _attempt_3(
        self, place: Place, draft: ConfigDraft, demanded: str | Absent, before: Held | None
    ) -> str | None:
        """Write on a condition; the revision, or None if the condition did not hold."""
        mark = new_mark(place.data_id)
        if not await self._put(place, draft, demanded, {"encryptedDataKey": mark}):
            return None
        if mark:
            return revision(_md5(draft), mark_in(mark))
        after = await self.read(place)
        return revision(_md5(draft), SUPERSEDED) if after is None else after.item.revision

    async def _attempt_2(
        self, place: Place, draft: ConfigDraft, demanded: str | Absent, before: Held | None
    ) -> str | None:
        mark = secrets.token_hex(8)
        marks = [mark, *(before.marks if before is not None else ())][:MARKS]
        if not await self._put(place, draft, demanded, {"schema": " ".join(marks)}):
            return None
        after = await self.read(place)
        if after is None or mark not in after.marks:
            return None
        return after.item.revision if after.marks[0] == mark else revision(_md5(draft), SUPERSEDED)

    async def _see_removed(self, place: Place, before: Held) -> None:
        """The database shows it at once."""


class FromCopy(Line):
    """See the module."""

    async def read(self, place: Place) -> Held | None:
        while True:
            found = await self._transport.ask(
                "ConfigQueryRequest", place.request(), Queried, accept=(ABSENT_CODE, BUSY_CODE)
            )
            if found.result_code == 200:
                stamp = found.last_modified
                revised = revision(found.md5, mark_in(found.encrypted_data_key) or stamp)
                return Held(item(place, found.content, revised, stamp, content_type=kind(found.content_type)), stamp)
            if found.error_code == ABSENT_CODE:
                return None
            await asyncio.sleep(LOOK)

    async def publish(self, place: Place, draft: ConfigDraft, expected: str | Absent | None) -> str:
        before = await self.read(place)
        if isinstance(expected, str):
            _compare(place, expected, before)
        mark = new_mark(place.data_id)
        while not await self._put(place, draft, expected, {"encryptedDataKey": mark}):
            # Without a condition: two at a time have created it.
            if expected is not None:
                raise conflict(place, expected, await self._in_the_way(place, expected, before))
        return await self._see(place, before, _md5(draft), mark_in(mark))

    async def _in_the_way(self, place: Place, expected: str | Absent, before: Held | None) -> Held | None:
        """The value because of which a condition did not hold: whoever reads again at once has to see it."""
        if _revision(before) != (None if isinstance(expected, Absent) else expected):
            return before
        return await self._see_other(place, before, SETTLED)

    async def _see(self, place: Place, before: Held | None, md5: str, mark: str) -> str:
        """The revision of what was just written, when reads have it or something newer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            present = await self.read(place)
            ours = present is not None and present.item.revision.startswith(md5)
            changed, waited = _state(present) != _state(before), loop.time() - began
            # Equal content that was written again keeps its mark in the copy, with a new time; at worst it changes nothing.
            if present is not None and ours and (changed or waited > SETTLED):
                return present.item.revision
            if changed and waited > SETTLED:
                return revision(md5, mark or SUPERSEDED)
            if waited > self._transport.call_timeout:
                raise self._hidden(place, "took")
            await asyncio.sleep(LOOK)

    async def _see_removed(self, place: Place, before: Held) -> None:
        present = await self._see_other(place, before, self._transport.call_timeout)
        if _state(present) == _state(before):
            raise self._hidden(place, "removed")

    async def _see_other(self, place: Place, known: Held | None, seconds: float) -> Held | None:
        """What reads show as soon as it is another value, or when the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            found = await self.read(place)
            if _state(found) != _state(known) or loop.time() > until:
                return found
            await asyncio.sleep(LOOK)

    def _hidden(self, place: Place, did: str) -> DeadlineExceeded:
        seconds = self._transport.call_timeout
        return DeadlineExceeded(
            f"{self._transport.where} {did} {place.key}, and does not show that within {seconds:g} s"
        )


async def line_of(transport: Transport, tenant: str) -> Line:
    """How this server is read, found by what its HTTP interface has, and for whom."""
    for number in (3, 2):
        try:
            there = await ConfigWeb(transport, number).is_there(tenant)
        except Denied:
            # With an account it is a matter of this one list; without, nobody is let in here.
            return FromDatabase(transport, number) if transport.has_account else FromCopy(transport, number)
        if there:
            return FromDatabase(transport, number)
    return FromCopy(transport, 3)


def _compare(place: Place, expected: str | Absent | None, present: Held | None) -> None:
    if expected is None:
        return
    if _revision(present) != (None if isinstance(expected, Absent) else expected):
        raise conflict(place, expected, present)


def _revision(held: Held | None) -> str | None:
    return None if held is None else held.item.revision


def _state(held: Held | None) -> tuple[str, int] | None:
    return None if held is None else (held.item.revision, held.stamp)


def _text(draft: ConfigDraft) -> str:
    if isinstance(draft.content, str):
        return draft.content
    try:
        return draft.content.decode()
    except UnicodeDecodeError:
        raise InvalidArgument("Nacos keeps text only: encode the bytes, in base64 for example") from None


def _md5(draft: ConfigDraft) -> str:
    return hashlib.md5(draft.data, usedforsecurity=False).hexdigest()


def _is_conflict(answer: wire.Answer) -> bool:
    """All failures of a write have one code; those of a condition are known by their text."""
    return any(words in _said(answer).lower() for words in ("md5 may have changed", "already exist"))


def _said(answer: wire.Answer) -> str:
    return " ".join((answer.message or "no reason given").split())[:300]
