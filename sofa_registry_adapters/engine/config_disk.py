"""The last known good configuration values on disk: one file a key, with all the care of `disk`.

A value may be a secret. Its file is as private as the folder: 0600 in 0700; ``snapshot=off`` keeps it off the disk.
"""

from __future__ import annotations

import msgspec

from sofa_registry_adapters.engine.disk import Folder, decoded
from sofa_registry_adapters.model.config import ConfigItem, ConfigKey

VERSION = 1


class SavedItem(msgspec.Struct, omit_defaults=True):
    """A value as it was saved: when, in milliseconds since 1970, and what it was."""

    v: int
    key: str
    group: str
    saved: int
    revision: str
    text: str | None = None
    data: bytes = b""
    type: str = ""
    at: float = 0.0
    by: str = ""

    @property
    def item(self) -> ConfigItem:
        """The value; stale, as everything that comes from here."""
        return ConfigItem(
            key=self.key,
            group=self.group,
            content=self.data if self.text is None else self.text,
            revision=self.revision,
            content_type=self.type,
            updated_at=self.at,
            author=self.by,
            stale=True,
        )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SavedItem).decode


class ConfigDisk(Folder):
    """The snapshots of configuration values."""

    def save(self, item: ConfigItem, saved: int) -> None:
        """Replace the snapshot of the item's key."""
        text, data = (item.content, b"") if isinstance(item.content, str) else (None, item.content)
        found = SavedItem(
            VERSION,
            item.key,
            item.group,
            saved,
            item.revision,
            text,
            data,
            item.content_type,
            item.updated_at,
            item.author,
        )
        self.write(_name(ConfigKey(item.key, item.group)), _encode(found))

    def load(self, key: ConfigKey) -> SavedItem | None:
        """The snapshot of the key; None if there is none. A damaged one raises ValueError."""
        body = self.read(_name(key))
        if body is None:
            return None
        found = decoded(_decode, body)
        if found.v != VERSION or (found.key, found.group) != (key.key, key.group):
            raise ValueError(f"the snapshot of {key} is of another version or key; it is ignored")
        return found

    def forget(self, key: ConfigKey) -> None:
        """Remove the snapshot of a key that has no value any more."""
        self.remove(_name(key))


def _name(key: ConfigKey) -> str:
    # No service is called so: a name has no control characters.
    return f"config\n{key.group}\n{key.key}"
