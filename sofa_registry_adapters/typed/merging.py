"""Mappings laid over each other, and finding in which of them a field stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sofa_registry_adapters.typed.bounds import Tree


def merged(trees: Sequence[Tree]) -> Tree:
    """Later ones over earlier ones: mappings entry by entry, anything else as a whole. Shares no mapping and no list with them."""
    result: Tree = {}
    for tree in trees:
        _lay(result, tree)
    return result


def _lay(under: Tree, over: Tree) -> None:
    for name, value in over.items():
        below = under.get(name)
        if isinstance(below, dict) and isinstance(value, dict):
            _lay(below, value)
        else:
            under[name] = _fresh(value)


def _fresh(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _fresh(one) for name, one in value.items()}
    return [_fresh(one) for one in value] if isinstance(value, list) else value


def holder(field: str, trees: Sequence[Tree], preferred: int) -> int:
    """The index of the tree that the field's value comes from: the last one that has most of its path; in doubt the preferred one."""
    steps = [step for step in re.split(r"[.\[\]]+", field) if step]
    best, most = preferred, _known(trees[preferred], steps)
    for index, tree in enumerate(trees):
        known = _known(tree, steps)
        if known > most or (known == most > 0 and known == len(steps)):
            best, most = index, known
    return best


def _known(tree: Any, steps: Sequence[str]) -> int:
    """How many steps of the path there are."""
    for number, step in enumerate(steps):
        if isinstance(tree, dict) and step in tree:
            tree = tree[step]
        elif isinstance(tree, list) and step.isdigit() and int(step) < len(tree):
            tree = tree[int(step)]
        else:
            return number
    return len(steps)
