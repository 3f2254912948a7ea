"""Values of configuration as Nacos has them: where they are, what answers about them look like, what their revisions are. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from sofa_registry_adapters.backends.nacos import wire
from sofa_registry_adapters.backends.nacos.names import config_name
from sofa_registry_adapters.errors import Conflict
from sofa_registry_adapters.model.config import Absent, ConfigItem, ConfigKey
from sofa_registry_adapters.spi.config import ConfigDraft

UNTYPED = frozenset(("unset", "null"))
"""What Nacos calls the type of a value that was given none."""
ENCRYPTED = "cipher-"
"""How the data ids begin whose values clients of Nacos decrypt: only for them ``encrypted_data_key`` means something to others."""
TYPES = frozenset(("text", "json", "xml", "yaml", "html", "properties", "toml"))
"""The content types that Nacos knows; it makes text of any other."""
_MARK = "sofa:"
_NOTE = ";type="


class Place(NamedTuple):
    """Where Nacos has a value. ``tenant`` is the namespace, which is empty for ``public``: a listener there is never told otherwise."""

    key: ConfigKey
    data_id: str
    group: str
    tenant: str

    @classmethod
    def of(cls, key: ConfigKey, tenant: str) -> Place:
        """The place of a key. Raises `InvalidName` if Nacos cannot have it."""
        return cls(key, *config_name(key), tenant)

    def request(self, **more: object) -> dict[str, object]:
        """The body of a request about the value."""
        return {"dataId": self.data_id, "group": self.group, "tenant": self.tenant, "module": "config", **more}


class Held(NamedTuple):
    """The present value. ``stamp`` is when it was written, in milliseconds.

    ``marks`` are those of the last writes to it, the newest first, where they can be seen.
    """

    item: ConfigItem
    stamp: int = 0
    marks: Sequence[str] = ()


class Queried(wire.Answer):
    """The answer to a query over gRPC. ``last_modified`` is in milliseconds."""

    content: str | None = None
    content_type: str | None = None
    md5: str | None = None
    last_modified: int = 0
    encrypted_data_key: str | None = None


def revision(md5: str | None, told_apart: str | int) -> str:
    """Nacos' own version is the digest; what follows tells values apart that were removed and created again, or set back and forth."""
    return f"{md5 or ''}.{told_apart}"


def new_mark(data_id: str) -> str:
    """A name for one write, kept beside the value; none where that place is needed."""
    return "" if data_id.startswith(ENCRYPTED) else _MARK + secrets.token_hex(8)


def mark_in(kept: str | None) -> str:
    """The mark in what is kept beside the value, if there is one."""
    return kept.removeprefix(_MARK) if kept is not None and kept.startswith(_MARK) else ""


def digest(expected: str | Absent) -> str:
    """What the server compares with: the digest in the revision; one that no content has demands that there be no value."""
    return "0" * 32 if isinstance(expected, Absent) else expected.partition(".")[0]


def item(place: Place, content: str | None, revised: str, milliseconds: int, **more: Any) -> ConfigItem:
    """A value. ``more`` are further fields of it."""
    return ConfigItem(
        key=place.key.key,
        group=place.key.group,
        content=content or "",
        revision=revised,
        updated_at=milliseconds / 1000,
        **more,
    )


def kind(name: str | None) -> str:
    """The content type, as the server has it."""
    return "" if name is None or name in UNTYPED else name


def sent_kind(content_type: str) -> str:
    """The content type that the server is told."""
    if not content_type:
        return "unset"
    return content_type if content_type in TYPES else "text"


def noted(draft: ConfigDraft, line: int) -> str:
    """The author, and behind it the content type where the server, or its history, would lose that."""
    lost = draft.content_type and (line == 2 or draft.content_type not in TYPES)
    return f"{draft.author}{_NOTE}{draft.content_type}" if lost else draft.author


def noted_author(user: str | None) -> str:
    """The author in what was noted."""
    return (user or "").partition(_NOTE)[0]


def noted_kind(user: str | None) -> str:
    """The content type in what was noted, if there is one."""
    return (user or "").partition(_NOTE)[2]


def conflict(place: Place, expected: str | Absent | None, present: Held | None) -> Conflict:
    """The error of a write that demanded another revision."""
    wanted = None if isinstance(expected, Absent) else expected
    found = present.item.revision if present is not None else None
    return Conflict(
        f"{place.key} is at {found or 'no value'}, not at {wanted or 'no value'}: read it again",
        expected=wanted,
        present=found,
    )
