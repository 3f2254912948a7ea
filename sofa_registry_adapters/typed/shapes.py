"""Which fields a model has, however deep: for names that are not known, and for the callbacks of fields."""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from sofa_registry_adapters.typed.bounds import Unusable

NOT_KNOWN = "it is not known"


class Entry(NamedTuple):
    """A field: how the class calls it, how values may call it, and its type."""

    attribute: str
    names: tuple[str, ...]
    kind: Any


class Shape:
    """The fields of one class."""

    def __init__(self, entries: Collection[Entry], more: Collection[str] = (), *, open_: bool = False) -> None:
        """``more``: further names in values. ``open_``: any name may be in values."""
        self.entries: dict[str, Entry] = {one.attribute: one for one in entries}
        self._by_name = {name: one for one in entries for name in one.names}
        self._more = frozenset(more)
        self._open = open_

    def check_known(self, tree: Mapping[Any, Any], path: str = "") -> None:
        """Raises `Unusable` for the first name, however deep, that is no field."""
        for name, value in tree.items():
            entry = self._by_name.get(name)
            here = f"{path}.{name}".lstrip(".")
            if entry is not None:
                for deeper, one, inner in _inner(entry.kind, value, here):
                    inner.check_known(one, deeper)
            elif not self._open and name not in self._more:
                raise Unusable(NOT_KNOWN + near(str(name), self._by_name), here)

    def wrong_step(self, steps: list[str]) -> tuple[str, str] | None:
        """The first step of a path of attributes that leads nowhere, and what is near it; None if all may lead somewhere."""
        entry = self.entries.get(steps[0])
        if entry is None:
            return steps[0], near(steps[0], self.entries)
        if len(steps) == 1:
            return None
        inner = _only_shape(entry.kind)
        if inner is not None:
            return inner.wrong_step(steps[1:])
        return (steps[1], "") if _is_plain(entry.kind) else None


def near(name: str, known: Collection[str]) -> str:
    """A hint at what may be meant."""
    found = difflib.get_close_matches(name, known, 1)
    return f": did you mean {found[0]!r}?" if found else ""


def shape_of(kind: Any) -> Shape | None:
    """The fields of a class: a Struct, a dataclass, a pydantic model; None for anything else."""
    return _shape_of(kind) if isinstance(kind, type) else None


@functools.lru_cache(256)
def _shape_of(kind: type) -> Shape | None:
    if issubclass(kind, msgspec.Struct):
        fields = [Entry(one.name, (one.encode_name,), one.type) for one in msgspec.structs.fields(kind)]
        tag = kind.__struct_config__.tag_field
        return Shape(fields, (tag,) if tag else ())
    # The one of models before pydantic 2.10, the other of its dataclasses and of all since.
    pydantic = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", None)
    if isinstance(pydantic, dict):
        # Only where a model says so does pydantic keep names that it does not know.
        settings = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}
        entries = [Entry(name, _aliases(name, one), one.annotation) for name, one in pydantic.items()]
        return Shape(entries, open_=settings.get("extra") == "allow")
    if hasattr(kind, "__dataclass_fields__"):
        hints = _hints(kind)
        return Shape([Entry(name, (name,), hints.get(name, Any)) for name in kind.__dataclass_fields__])
    return None


def _aliases(name: str, field: Any) -> tuple[str, ...]:
    """All names that a field of pydantic may have in values."""
    given = field.validation_alias or field.alias
    choices = getattr(given, "choices", [given])
    first = [getattr(one, "path", [one])[0] for one in choices if one is not None]
    return (name, *(one for one in first if isinstance(one, str)))


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError, AttributeError):
        # Names that only the type checker sees.
        return {}


def _inner(kind: Any, value: object, path: str) -> Iterator[tuple[str, Mapping[Any, Any], Shape]]:
    """The mappings in a value that have fields, with their paths."""
    if isinstance(value, dict):
        shape = _only_shape(kind)
        if shape is not None:
            yield path, value, shape
        elif (each := _held(kind, (dict,), 1)) is not None:
            for name, one in value.items():
                yield from _inner(each, one, f"{path}.{name}")
    elif isinstance(value, list) and (each := _held(kind, (list, tuple), 0)) is not None:
        for number, one in enumerate(value):
            yield from _inner(each, one, f"{path}[{number}]")


def _alternatives(kind: Any) -> list[Any]:
    """The types that a value may have, without what is written around them."""
    while True:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            break
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [one for each in typing.get_args(kind) for one in _alternatives(each)]
    return [kind]


def _only_shape(kind: Any) -> Shape | None:
    """The fields of a value, if it can have those of one class only."""
    found = [shape for one in _alternatives(kind) if (shape := shape_of(one)) is not None]
    return found[0] if len(found) == 1 else None


def _held(kind: Any, containers: tuple[type, ...], index: int) -> Any:
    """What each place of a container holds, where that is one type."""
    for one in _alternatives(kind):
        origin, arguments = typing.get_origin(one), typing.get_args(one)
        mixed = origin is tuple and arguments[1:] != (Ellipsis,)
        fits = isinstance(origin, type) and any(issubclass(each, origin) for each in containers)
        if fits and not mixed and len(arguments) > index:
            return arguments[index]
    return None


def _is_plain(kind: Any) -> bool:
    """Whether nothing can be inside of a value of the type."""
    return all(one in (bool, bytes, float, int, str, type(None)) for one in _alternatives(kind))
