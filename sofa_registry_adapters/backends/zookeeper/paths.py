"""Where records are in the tree of nodes."""

from __future__ import annotations

from sofa_registry_adapters.model.names import encode_segment
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.spi.store import RecordKey


class Tree:
    """The nodes below ``/root/namespace``."""

    def __init__(self, target: Target) -> None:
        segments = [segment for segment in target.path.split("/") if segment]
        self.root: tuple[str, ...] = tuple("/" + "/".join(segments[: depth + 1]) for depth in range(len(segments)))
        """The nodes that are made once and stay."""
        self._namespace: tuple[str, ...] = ()
        if namespace := target.text("namespace"):
            segments.append(encode_segment(namespace))
            self._namespace = ("/" + "/".join(segments),)
        self._prefix = "/" + "/".join(segments) if segments else ""
        self._depth = len(segments) + 1

    def bucket(self, path: tuple[str, ...]) -> str:
        """The node of a bucket."""
        return "/".join((self._prefix, *path)) or "/"

    def record(self, key: RecordKey) -> str:
        """The node of a record."""
        return "/".join((self._prefix, *key.bucket, key.name))

    def key(self, path: str) -> RecordKey:
        """The record of a node below the root."""
        segments = path.split("/")[self._depth :]
        return RecordKey(tuple(segments[:-1]), segments[-1])

    def parents(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The nodes below the root on the way to a bucket, the namespace's and its own included."""
        return (*self._namespace, *(self.bucket(path[: depth + 1]) for depth in range(len(path))))
