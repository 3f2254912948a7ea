"""Configuration values: where one is, what it says, and what changed."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.model.names import check_text

DEFAULT_GROUP: Final = "DEFAULT_GROUP"
"""The group of a key that names none; Nacos and DRM call it the same."""


class Absent(enum.Enum):
    """The type of `ABSENT`."""

    ABSENT = "ABSENT"


ABSENT: Final = Absent.ABSENT
"""As an expected revision: there must be no value yet."""


class ConfigKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where a value is: a key in a group. Both follow the rules of service names."""

    key: str
    group: str = DEFAULT_GROUP

    def __post_init__(self) -> None:
        check_text(self.key, "the configuration key")
        check_text(self.group, "the configuration group")

    @classmethod
    def of(cls, key: str | ConfigKey, group: str = DEFAULT_GROUP) -> ConfigKey:
        """The key, in the group unless it has one of its own. Raises `InvalidArgument`."""
        if not isinstance(key, cls):
            return cls(key, group)  # type: ignore[arg-type]
        if group not in {DEFAULT_GROUP, key.group}:
            raise InvalidArgument(f"{key} has a group of its own, and group={group!r} is another: leave one out")
        return key

    def __str__(self) -> str:
        return f"{self.group}/{self.key}"


class ConfigItem(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a key at one time. Printing it shows no content: that may be secret.

    ``content`` is what was published, text or bytes. ``revision`` is opaque and compared for equality only; a key that
    was removed and created again has another. ``updated_at`` is in seconds of the Unix epoch, 0 where the product does
    not say; ``author`` says who published it, as far as is known. ``stale``: the last known good, which the product could
    not confirm.
    """

    key: str
    group: str = DEFAULT_GROUP
    content: str | bytes
    revision: str
    content_type: str = ""
    updated_at: float = 0.0
    author: str = ""
    stale: bool = False

    @property
    def data(self) -> bytes:
        """The content as bytes; text is UTF-8."""
        return self.content if isinstance(self.content, bytes) else self.content.encode()

    @property
    def text(self) -> str:
        """The content as text. Raises UnicodeDecodeError for bytes that are not UTF-8."""
        return self.content if isinstance(self.content, str) else self.content.decode()

    def __repr__(self) -> str:
        stale = " stale" if self.stale else ""
        return f"<ConfigItem {self.group}/{self.key} {len(self.data)} bytes {self.revision}{stale}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("key", f"{self.group}/{self.key}"), ("revision", self.revision)]


class ConfigChange(msgspec.Struct, frozen=True):
    """One step of a listener or a watch: the value after it, and the one that this listener was told of before.

    None is no value: ``item`` after a removal, ``previous`` before the first value. Steps that a slow listener missed are
    folded into one; a change of staleness alone is no step.
    """

    key: ConfigKey
    item: ConfigItem | None
    previous: ConfigItem | None = None

    @property
    def stale(self) -> bool:
        """Whether the value is the last known good, served without the config center."""
        return self.item is not None and self.item.stale
