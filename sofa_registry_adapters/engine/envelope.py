"""How a configuration value stands in a store: a line of JSON that says what it is, and then the value as it is.

::

    {"v":1,"serial":12,"id":"9f2c4e71a0b3d5e6","text":true,"type":"yaml","at":1766197200000,"by":"ann@host:4711"}
    size: 10

``v`` is the format's version; a reader takes its own and later ones. ``serial`` counts the values of a key, ``id`` is new with
each publication: both together are its revision, unique also where the store counts anew. ``gone`` marks a removal, which
keeps the serial of what was removed; without it an absent record is a loss of data. docs/reference/native-layout.md has
the whole format.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Self

import msgspec

from sofa_registry_adapters.errors import CorruptRecord
from sofa_registry_adapters.model.config import ConfigItem, ConfigKey
from sofa_registry_adapters.spi.config import ConfigDraft

VERSION = 1
HEADER_BYTES = 4096
"""More than a header can have."""
_AUTHOR_CHARACTERS = 200
_ID = re.compile(r"[0-9a-f]{16}")


# An integer of any length would be no time that anybody can compute with, and no name that a store takes.
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Header(msgspec.Struct, omit_defaults=True):
    v: int
    serial: _Number
    id: str
    text: bool = False
    type: str = ""
    at: _Number = 0
    by: str = ""
    gone: bool = False


_decode = msgspec.json.Decoder(_Header).decode
_encode = msgspec.json.Encoder().encode


class Envelope(msgspec.Struct, frozen=True):
    """A value with all that is said about it. ``at`` is in milliseconds since 1970."""

    serial: int
    id: str
    data: bytes
    text: bool = True
    content_type: str = ""
    at: int = 0
    author: str = ""
    gone: bool = False

    @classmethod
    def of(cls, draft: ConfigDraft, serial: int, at: int) -> Self:
        """What is published now."""
        text = isinstance(draft.content, str)
        author = draft.author[:_AUTHOR_CHARACTERS]
        return cls(serial, secrets.token_hex(8), draft.data, text, draft.content_type, at, author)

    @classmethod
    def removal(cls, serial: int, author: str, at: int) -> Self:
        """The mark that takes the place of a value that is removed now; ``serial`` is that value's."""
        name = author[:_AUTHOR_CHARACTERS]
        return cls(max(serial, 1), secrets.token_hex(8), b"", at=at, author=name, gone=True)

    @property
    def revision(self) -> str:
        """No other publication has it."""
        return f"{self.serial}-{self.id}"

    def encode(self) -> bytes:
        """The record's bytes."""
        header = _Header(VERSION, self.serial, self.id, self.text, self.content_type, self.at, self.author, self.gone)
        return _encode(header) + b"\n" + self.data

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """What the bytes say. Raises `CorruptRecord`, never anything else."""
        line, newline, data = value.partition(b"\n")
        if not newline or len(line) > HEADER_BYTES:
            raise CorruptRecord("the value was not written by this library: its first line says nothing about it")
        try:
            header = _decode(line)
            if header.text:
                data.decode()
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise CorruptRecord(f"the value cannot be decoded: {error}") from None
        if header.v < VERSION or header.serial < 1 or not _ID.fullmatch(header.id):
            raise CorruptRecord(f"the value's first line cannot be true: {line[:200]!r}")
        return cls(header.serial, header.id, data, header.text, header.type, header.at, header.by, header.gone)

    def item(self, key: ConfigKey) -> ConfigItem:
        """As callers see it."""
        return ConfigItem(
            key=key.key,
            group=key.group,
            content=self.data.decode() if self.text else self.data,
            revision=self.revision,
            content_type=self.content_type,
            updated_at=self.at / 1000,
            author=self.author,
        )
