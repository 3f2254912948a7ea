"""Where records are among the keys of etcd."""

from __future__ import annotations

from typing import NamedTuple

from sofa_registry_adapters.backends.etcd import segments
from sofa_registry_adapters.model.names import encode_segment
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.spi.store import Bucket, RecordKey

Path = tuple[str, ...]


class Span(NamedTuple):
    """Keys from ``first`` on, up to ``end`` and without it; that key alone where ``end`` is empty."""

    first: bytes
    end: bytes = b""


def encode(text: str) -> bytes:
    """Text as a key has it. What `decode` made of foreign bytes becomes these bytes again."""
    return text.encode("utf-8", "surrogateescape")


def decode(raw: bytes) -> str:
    """Text of a key; bytes that are no UTF-8 survive the way there and back."""
    return raw.decode("utf-8", "surrogateescape")


def below(raw: bytes) -> Span:
    """All keys that begin with these bytes, which end with a slash; all keys there are for none."""
    # 0 comes after / in ASCII.
    return Span(raw, raw[:-1] + b"0") if raw else Span(b"\0", b"\0")


class Keyspace:
    """The keys of one prefix and namespace: ``/prefix/namespace/segment/…/name``."""

    def __init__(self, target: Target) -> None:
        namespace = target.text("namespace")
        parts = (*segments(target), *((encode_segment(namespace),) if namespace else ()))
        slash = "/" if target.flag("leading_slash") else ""
        self.root: bytes = encode(slash + "".join(f"{part}/" for part in parts))

    def of_record(self, key: RecordKey) -> bytes:
        """The key of a record."""
        return self.root + encode("/".join((*key.bucket, key.name)))

    def of_bucket(self, path: Path) -> bytes:
        """What the keys of a bucket begin with."""
        return self.root + encode("".join(f"{segment}/" for segment in path))

    def place(self, bucket: Bucket) -> Place:
        """The keys of a bucket, and how they are read."""
        return Place(bucket, self.of_bucket(bucket.path), len(self.root))


class Place:
    """The keys of one bucket."""

    def __init__(self, bucket: Bucket, head: bytes, root: int) -> None:
        self.bucket = bucket
        self.span: Span = below(head)
        self._head = len(head)
        self._root = root

    def key(self, raw: bytes) -> RecordKey | None:
        """The record at a key of the span; None where it is in a bucket below and those are not asked for."""
        if not self.bucket.deep:
            rest = raw[self._head :]
            return None if b"/" in rest else RecordKey(self.bucket.path, decode(rest))
        *path, name = decode(raw[self._root :]).split("/")
        return RecordKey(tuple(path), name)
