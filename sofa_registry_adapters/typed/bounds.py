"""What a configuration value may cost, whoever wrote it; and what is raised for one that cannot be used."""

from __future__ import annotations

from typing import Any

Tree = dict[Any, Any]
"""A parsed value: mappings, lists and scalars."""

MAX_LENGTH = 1_000_000
"""Characters of a text, or bytes."""
MAX_DEPTH = 64
"""Mappings and lists inside each other."""
MAX_NODES = 50_000
"""Mappings, lists and scalars of one value; what YAML repeats by an alias counts each time."""


class Unusable(ValueError):
    """A value, or what several make together, cannot be used. Neither the reason nor the field shows content."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.reason: str = reason
        self.field: str = field
        """Where it is, dotted; empty where it is no single field."""

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


def check_size(tree: object) -> None:
    """Refuse what is too deep or too much. Raises `Unusable`."""
    nodes, ahead = 0, [(tree, 1)]
    while ahead:
        value, depth = ahead.pop()
        nodes += 1
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        check_nodes(nodes + len(ahead) + len(inner))
        if inner:
            check_depth(depth)
            ahead += [(one, depth + 1) for one in inner]


def check_nodes(nodes: int) -> None:
    """Raises `Unusable` for too many."""
    if nodes > MAX_NODES:
        raise Unusable(f"it has more than {MAX_NODES} values, counted with each repetition")


def check_depth(depth: int) -> None:
    """Raises `Unusable` for too many levels."""
    if depth > MAX_DEPTH:
        raise Unusable(f"it is nested more than {MAX_DEPTH} levels deep")
