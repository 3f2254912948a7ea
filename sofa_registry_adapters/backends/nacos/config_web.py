"""The part of Nacos' HTTP interface that is about configuration: its addresses in each line, and what its answers say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from sofa_registry_adapters.backends.nacos.config_values import Place
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.errors import Denied, Unavailable

T = TypeVar("T")

PAGE = 500
"""Rows in one answer, the most that Nacos gives."""
INSERTED = "I"
REMOVED = "D"
_VALUE = {2: "/v1/cs/configs", 3: "/v3/admin/cs/config"}
_LIST = {2: "/v1/cs/configs", 3: "/v3/admin/cs/config/list"}
_HISTORY = {2: "/v1/cs/history", 3: "/v3/admin/cs/history/list"}
_ENTRY = {2: "/v1/cs/history", 3: "/v3/admin/cs/history"}
_GROUP = {2: "group", 3: "groupName"}
_TENANT = {2: "tenant", 3: "namespaceId"}
_DENIED = (
    ". Nacos 3 has this under /v3/admin, which by default wants a user even where clients need none "
    "(nacos.core.auth.admin.enabled in its application.properties): put one into the URL"
)


class Row(msgspec.Struct, rename="camel"):
    """A row of the table of values. ``modify_time`` is in milliseconds."""

    content: str | None = None
    type: str | None = None
    md5: str | None = None
    modify_time: int = 0
    create_user: str | None = None
    schema: str | None = None
    encrypted_data_key: str | None = None


class Entry(msgspec.Struct, rename="camel"):
    """One row of the history. That of an update or a removal (U, D) has the value before it, that of an insertion (I) the new one.

    Line 2 has the time in ``last_modified_time``, line 3 in ``modify_time``, and there the type of the value is in ``ext_info``.
    ``src_user`` is who made it. Only `Web.entry` gives the content.
    """

    id: str | int
    op_type: str = ""
    src_user: str | None = None
    content: str | None = None
    md5: str | None = None
    modify_time: int | None = None
    last_modified_time: datetime | None = None
    ext_info: str | None = None
    encrypted_data_key: str | None = None

    @property
    def kind(self) -> str:
        """What happened. Nacos has it in a column of fixed width."""
        return self.op_type.strip()

    @property
    def milliseconds(self) -> int:
        """When it was made."""
        if self.last_modified_time is not None:
            return round(self.last_modified_time.timestamp() * 1000)
        return self.modify_time or 0

    @property
    def type(self) -> str | None:
        """The type of the value, where Nacos keeps it."""
        try:
            return msgspec.json.decode(self.ext_info or "{}", type=_Extended).type
        except msgspec.MsgspecError:
            return None


class _Extended(msgspec.Struct):
    type: str | None = None


class _Name(msgspec.Struct, rename="camel"):
    data_id: str


class _Names(msgspec.Struct, rename="camel"):
    page_items: list[_Name] | None = None


class _Entries(msgspec.Struct, rename="camel"):
    page_items: list[Entry] | None = None


class _Wrapped(msgspec.Struct):
    """Around every answer of line 3."""

    data: msgspec.Raw = msgspec.Raw(b"null")


class ConfigWeb:
    """The interface of a server of line ``number``. Every method raises `Denied`, `Refused` and `Unavailable`."""

    def __init__(self, transport: Transport, number: int) -> None:
        self.number = number
        self._transport = transport

    async def is_there(self, tenant: str) -> bool:
        """Whether the server has the interface of this line."""
        # A list is there even where it is empty; a value that is not there looks like a path that is not there.
        query = self._about("", "", tenant) | _page(1, 1)
        return await self._transport.fetch(_LIST[self.number], query) is not None

    async def value(self, place: Place) -> Row | None:
        """The present value."""
        query = self._about(place.data_id, place.group, place.tenant) | {"show": "all"}
        return await self._fetch(_VALUE[self.number], query, Row)

    async def names(self, group: str, tenant: str, page: int) -> Sequence[str]:
        """The data ids in a group, `PAGE` at a time."""
        found = await self._fetch(_LIST[self.number], self._about("", group, tenant) | _page(page, PAGE), _Names)
        return [one.data_id for one in (found.page_items if found is not None else None) or ()]

    async def entries(self, place: Place, most: int) -> Sequence[Entry]:
        """What happened to a value last, the newest first, without contents."""
        query = self._about(place.data_id, place.group, place.tenant) | _page(1, min(most, PAGE))
        found = await self._fetch(_HISTORY[self.number], query, _Entries)
        return (found.page_items if found is not None else None) or ()

    async def entry(self, place: Place, number: str | int) -> Entry | None:
        """One row of the history, with its content."""
        query = self._about(place.data_id, place.group, place.tenant) | {"nid": str(number)}
        return await self._fetch(_ENTRY[self.number], query, Entry)

    def _about(self, data_id: str, group: str, tenant: str) -> dict[str, str]:
        return {"dataId": data_id, _GROUP[self.number]: group, _TENANT[self.number]: tenant}

    async def _fetch(self, path: str, query: dict[str, str], form: type[T]) -> T | None:
        try:
            body = await self._transport.fetch(path, query)
        except Denied as error:
            raise Denied(f"{error}{_DENIED if self.number == 3 else ''}") from None
        try:
            if body and self.number == 3:
                body = bytes(msgspec.json.decode(body, type=_Wrapped).data)
            return msgspec.json.decode(body, type=form | None) if body else None
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._transport.where} answers {path} with what cannot be read: {error}") from None


def _page(number: int, size: int) -> dict[str, str]:
    return {"search": "accurate", "pageNo": str(number), "pageSize": str(size)}
