"""Names of keys and channels: reversible, one hash tag a bucket, and no name that can break out of it."""

from __future__ import annotations

from typing import NamedTuple

from sofa_registry_adapters.model.names import encode_segment
from sofa_registry_adapters.spi.store import Bucket

Path = tuple[str, ...]

_PARTS = ("records", "leases", "names", "log", "state")
_CHANGES = b"}:changes"
_GLOB = frozenset(b"*?[]^\\-")


class Topic(NamedTuple):
    """A channel to subscribe to, or a pattern of channels."""

    name: bytes
    pattern: bool = False


def encode(text: str) -> bytes:
    """Text as Redis keeps it. What `decode` made of foreign bytes becomes these bytes again."""
    return text.encode("utf-8", "surrogateescape")


def decode(raw: bytes) -> str:
    """Text that Redis has; bytes that are no UTF-8 survive the way there and back."""
    return raw.decode("utf-8", "surrogateescape")


class Keyspace:
    """The keys of one prefix and namespace: ``<prefix>:{<namespace>/<segment>/<segment>}:<part>``."""

    def __init__(self, prefix: str, namespace: str) -> None:
        space = encode_segment(namespace) if namespace else ""
        self._tag = encode(f"{prefix}:{{{space}/")
        self.index: bytes = encode(f"{prefix}:{{{space}}}:buckets")
        """Sorted set of the paths of all buckets that had a record."""

    def keys(self, path: Path) -> tuple[bytes, ...]:
        """The keys of a bucket, in the order in which scripts take them; the last is its channel."""
        head = self._tag + joined(path)
        return (*(head + b"}:" + part.encode() for part in _PARTS), head + _CHANGES)

    def topics(self, bucket: Bucket) -> tuple[Topic, ...]:
        """Where the changes of a bucket are told."""
        own = self._tag + joined(bucket.path)
        if not bucket.deep:
            return (Topic(own + _CHANGES),)
        below = Topic(_literal(self._tag + _below(bucket.path)) + b"*" + _literal(_CHANGES), pattern=True)
        # The pattern of the topmost bucket has all channels already.
        return (Topic(own + _CHANGES), below) if bucket.path else (below,)

    def path_of(self, channel: bytes) -> Path | None:
        """The bucket whose changes the channel tells; None for a channel that is none of ours."""
        if not (channel.startswith(self._tag) and channel.endswith(_CHANGES)):
            return None
        return split(channel[len(self._tag) : -len(_CHANGES)])


def joined(path: Path) -> bytes:
    """A path as one text; `split` takes it apart. A segment has no ``/``, and braces would end the hash tag."""
    text = "/".join(path)
    if "~" in text or "{" in text or "}" in text:
        text = text.replace("~", "~0").replace("{", "~1").replace("}", "~2")
    return encode(text)


def split(raw: bytes) -> Path:
    """The path of a bucket."""
    text = decode(raw)
    if "~" in text:
        text = text.replace("~2", "}").replace("~1", "{").replace("~0", "~")
    return tuple(text.split("/")) if text else ()


def range_below(path: Path) -> tuple[bytes, bytes]:
    """The range of a sorted set that has the paths below ``path``, all of them for the empty path."""
    below = _below(path)
    # 0 comes after / in ASCII.
    return (b"[" + below, b"(" + below[:-1] + b"0") if below else (b"-", b"+")


def _below(path: Path) -> bytes:
    return joined(path) + b"/" if path else b""


def _literal(raw: bytes) -> bytes:
    return b"".join(b"\\" + bytes((byte,)) if byte in _GLOB else bytes((byte,)) for byte in raw)
