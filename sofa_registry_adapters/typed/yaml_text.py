"""YAML, by PyYAML's safe loader and within bounds: an alias costs nothing to write, and what it stands for is counted each time."""

from __future__ import annotations

import functools
import re
from typing import Any

from sofa_registry_adapters.errors import MissingDependency
from sofa_registry_adapters.typed.bounds import Unusable, check_depth, check_nodes

_LONGEST_NUMBER = 100
"""Characters of a whole number: the work on one with base 60 is the square of them."""
_BITS = 64
"""Of a whole number: larger ones can be chosen such that a mapping finds none of its keys soon."""


def read_yaml(text: str) -> object:
    """The value of the one document; an empty one is an empty mapping. Raises `Unusable`, `MissingDependency`."""
    yaml = require_yaml()
    try:
        _Survey(yaml).check(text, _base(yaml))
        # A subclass of the safe loader: it makes mappings, lists and scalars only.
        found = yaml.load(text, Loader=_loader())
    except Unusable:
        raise
    except Exception as error:  # noqa: BLE001  its constructors raise what they happen to: KeyError, IndexError, …
        raise Unusable(_reason(error)) from None
    return {} if found is None else found


def check_yaml(text: str) -> None:
    """Whether it is YAML at all, of any number of documents and any tags; nothing without PyYAML. Raises `Unusable`."""
    try:
        yaml = require_yaml()
    except MissingDependency:
        return
    try:
        for _ in yaml.parse(text, Loader=_base(yaml)):
            pass
    except Exception as error:  # noqa: BLE001  see above
        raise Unusable(_reason(error)) from None


def require_yaml() -> Any:
    """The module. Raises `MissingDependency`."""
    try:
        import yaml
    except ImportError:
        raise MissingDependency(
            "reading YAML needs PyYAML, which is not installed: pip install 'sofa-registry-adapters[yaml]'"
        ) from None
    return yaml


class _Survey:
    """A look over the events, before anything is built: depth, number, and what aliases stand for."""

    def __init__(self, yaml: Any) -> None:
        self._yaml = yaml
        self._open: list[list[Any]] = []
        """The mappings and lists that are open: the anchor of each, and the nodes in it so far."""
        self._sizes: dict[str, int] = {}
        self._nodes = 0

    def check(self, text: str, loader: Any) -> None:
        documents = 0
        for event in self._yaml.parse(text, Loader=loader):
            documents += isinstance(event, self._yaml.DocumentStartEvent)
            if documents > 1:
                raise Unusable("it has more than one document")
            self._see(event)
            check_nodes(self._nodes)
            check_depth(len(self._open))

    def _see(self, event: Any) -> None:
        if isinstance(event, self._yaml.CollectionStartEvent):
            if event.anchor is not None:
                self._sizes.pop(event.anchor, None)
            self._open.append([event.anchor, 1])
            self._nodes += 1
        elif isinstance(event, self._yaml.CollectionEndEvent):
            anchor, size = self._open.pop()
            if anchor is not None:
                self._sizes[anchor] = size
            self._count(size)
        elif isinstance(event, self._yaml.ScalarEvent):
            if event.anchor is not None:
                self._sizes[event.anchor] = 1
            self._nodes += 1
            self._count(1)
        elif isinstance(event, self._yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in self._open):
                raise Unusable(f"line {event.start_mark.line + 1} has an alias inside of what it stands for")
            size = self._sizes.get(event.anchor, 1)
            self._nodes += size
            self._count(size)

    def _count(self, nodes: int) -> None:
        if self._open:
            self._open[-1][1] += nodes


def _base(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def _loader() -> Any:
    base = _base(require_yaml())

    def construct_object(self: Any, node: Any, deep: bool = False) -> object:  # noqa: FBT001, FBT002  PyYAML has it so
        try:
            return base.construct_object(self, node, deep=deep)
        except (LookupError, ArithmeticError, AttributeError, TypeError, ValueError) as error:
            if isinstance(error, Unusable):
                raise
            where = f"line {node.start_mark.line + 1}"
            raise Unusable(f"{where} has a value that cannot be read as the type that it is written as") from None

    loader: Any = type("BoundedLoader", (base,), {"construct_object": construct_object})
    loader.add_constructor("tag:yaml.org,2002:int", _whole)
    return loader


def _whole(loader: Any, node: Any) -> object:
    if len(node.value) <= _LONGEST_NUMBER:
        number = loader.construct_yaml_int(node)
        if abs(number) < 1 << _BITS:
            return number
    raise Unusable(f"line {node.start_mark.line + 1} has a number of more than {_BITS} bits")


def _reason(error: Exception) -> str:
    """What is wrong and where, without what the text says: PyYAML quotes names and characters of it."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    # What is quoted may be content, unless it is punctuation: "expected ',' or ']'".
    marked = re.sub(r"'([^\w\s'\"]{1,2})'", "\0\\1\0", str(problem))
    hidden = re.sub(r"(['\"]).*\1", "…", marked, flags=re.DOTALL)
    shown = hidden.replace("\0", "'")
    return f"it is not YAML: {shown}{where}"
