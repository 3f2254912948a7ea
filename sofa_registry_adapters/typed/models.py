"""A user's class as a model: mappings are converted to it and validated, and a mistake is said without the value."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.typed.bounds import Tree, Unusable
from sofa_registry_adapters.typed.shapes import NOT_KNOWN, Shape, shape_of

T = TypeVar("T")
_WHERE = re.compile(r"(?P<reason>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_QUOTING = re.compile(r"Invalid (enum )?value ")
_NAMING = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>[^`]*)`")


class Model(ABC, Generic[T]):
    """A class, and how a mapping becomes an object of it."""

    def __init__(self, kind: type[T], shape: Shape, *, strict: bool) -> None:
        self.kind: type[T] = kind
        self.name: str = kind.__name__
        self._shape = shape
        self._strict = strict

    def build(self, tree: Tree) -> T:
        """The object. Raises `Unusable`, whatever the class's own code raises."""
        if self._strict:
            self._shape.check_known(tree)
        try:
            return self._build(tree)
        except Unusable as error:
            if error.reason == NOT_KNOWN:
                self._shape.check_known(tree)
            raise
        except Exception as error:  # noqa: BLE001  the class may have code of its own
            raise Unusable(f"{self.name} raised {type(error).__name__}") from None

    def steps(self, path: object) -> list[str]:
        """The steps of a field, ``pool.size``. Raises `InvalidArgument` for one that there cannot be."""
        if not isinstance(path, str) or not all(path.split(".")):
            raise InvalidArgument(f"a field is named as in 'pool.size', not {path!r:.60}")
        steps = path.split(".")
        wrong = self._shape.wrong_step(steps)
        if wrong is not None:
            raise InvalidArgument(f"{self.name} has no field {path!r}: there is no {wrong[0]!r}{wrong[1]}")
        return steps

    @abstractmethod
    def _build(self, tree: Tree) -> T:
        """The object. Raises `Unusable`, or anything."""


class _NativeModel(Model[T]):
    """A Struct or a dataclass."""

    def _build(self, tree: Tree) -> T:
        try:
            return msgspec.convert(tree, self.kind, strict=False)
        except msgspec.ValidationError as error:
            raise _native_mistake(error, tree) from None


class _PydanticModel(Model[T]):
    """A model of pydantic, or a dataclass of its kind."""

    def __init__(self, kind: type[T], shape: Shape, *, strict: bool) -> None:
        import pydantic

        super().__init__(kind, shape, strict=strict)
        self._mistake: type[Exception] = pydantic.ValidationError
        self._unfinished: type[Exception] = pydantic.PydanticUserError
        try:
            self._adapter = pydantic.TypeAdapter(kind)
        except self._unfinished as error:
            raise TypeError(error) from None

    def _build(self, tree: Tree) -> T:
        try:
            return self._adapter.validate_python(tree)
        except self._mistake as error:
            raise _pydantic_mistake(error, tree) from None
        except self._unfinished as error:
            raise TypeError(error) from None


def model_of(kind: type[T], *, strict: bool) -> Model[T]:
    """The class as a model. Raises `InvalidArgument` unless it is a Struct, a dataclass, or a model of pydantic 2."""
    try:
        return _model_of(kind, strict=strict)
    except (NameError, TypeError) as error:
        raise InvalidArgument(f"{kind.__name__} cannot be bound: {error}") from None


def _model_of(kind: type[T], *, strict: bool) -> Model[T]:
    shape = shape_of(kind)
    if shape is None:
        name = getattr(kind, "__name__", repr(kind))
        raise InvalidArgument(f"bind a msgspec.Struct, a dataclass or a model of pydantic 2; {name:.60} is none")
    make = _PydanticModel if hasattr(kind, "__pydantic_validator__") else _NativeModel
    model: Model[T] = make(kind, shape, strict=strict)
    try:
        model._build({})  # noqa: SLF001  whether it can be done at all
    except (NameError, TypeError):
        raise
    except Exception:  # noqa: BLE001, S110  fields without a default, or what the class's own code says of the defaults
        pass
    return model


def _native_mistake(error: msgspec.ValidationError, tree: Tree) -> Unusable:
    found = _WHERE.fullmatch(str(error))
    reason, path = (found["reason"], (found["path"] or "").lstrip(".")) if found else (str(error), "")
    if error.__cause__ is not None:
        # The words of the class's own code.
        return Unusable(without_values(reason, tree), path)
    if named := _NAMING.fullmatch(reason):
        missing = named["what"] == "missing required"
        return Unusable("it is missing" if missing else NOT_KNOWN, f"{path}.{named['name']}".lstrip("."))
    if _QUOTING.match(reason):
        return Unusable("it is none of the values that it may have", path)
    expected = reason[:1].lower() + reason[1:]
    return Unusable(f"a name in it: {expected}" if found and found["key"] else expected, path)


def _pydantic_mistake(error: Any, tree: Tree) -> Unusable:
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    first = mistakes[0]
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        reason = "it is missing"
    elif first["type"] == "extra_forbidden":
        reason = NOT_KNOWN
    else:
        reason = without_values(first["msg"].removeprefix("Value error, "), tree)
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 and reason != NOT_KNOWN else ""
    return Unusable(reason + more, field)


def without_values(text: str, tree: Tree) -> str:
    """The text with each value of the tree that it quotes left out."""
    quoted = {shown for value in _scalars(tree) for shown in _shown(value) if shown and shown in text}
    for one in sorted(quoted, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(one)}(?!\w)", "…", text)
    return text


def _shown(value: object) -> tuple[str, ...]:
    return (value, repr(value)[1:-1]) if isinstance(value, str) else (str(value),)


def _scalars(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _scalars(one)
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from _scalars(one)
    elif value is not None and not isinstance(value, bool):
        yield value


def value_at(found: object, steps: Sequence[str]) -> object:
    """What a field of an object is; None where there is none."""
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else getattr(found, step, None)
    return found
