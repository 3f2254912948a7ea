"""Several sources, one object: what is used of them while some say what cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from sofa_registry_adapters.errors import CorruptRecord, MissingDependency
from sofa_registry_adapters.model.config import ConfigItem, ConfigKey
from sofa_registry_adapters.typed.bounds import Tree, Unusable
from sofa_registry_adapters.typed.formats import format_of, format_of_name, parse
from sofa_registry_adapters.typed.merging import holder, merged
from sofa_registry_adapters.typed.models import Model
from sofa_registry_adapters.typed.yaml_text import require_yaml

T = TypeVar("T")


class Rejection(NamedTuple):
    """Why a value is not used: what is wrong, and the field, empty where it is no single one."""

    key: ConfigKey
    reason: str
    field: str

    def error(self, model: str) -> CorruptRecord:
        """As what `bind` raises."""
        return CorruptRecord(f"{self.key} cannot be used for {model}: {self.reason}")


class Layers(Generic[T]):
    """The sources of one model, in order: later ones override earlier ones. Not for several threads at a time.

    A source that cannot be parsed, or does not make a valid object with the others, counts as what it was before; as soon as
    the newest of all make one, that is used.
    """

    def __init__(self, model: Model[T], keys: Sequence[ConfigKey]) -> None:
        """Raises `MissingDependency` if the name of a key says that its value needs a library that is not installed."""
        if any(format_of_name(key.key) == "yaml" for key in keys):
            require_yaml()
        self.model = model
        self.keys: tuple[ConfigKey, ...] = tuple(keys)
        self._used: list[Tree] = [{} for _ in keys]
        self._newest: list[Tree | None] = list(self._used)
        """None where it cannot be parsed."""
        self._rejections: dict[int, Rejection] = {}

    @property
    def rejection(self) -> Rejection | None:
        """Why the newest value of some source is not used; None if all are."""
        return next(reversed(self._rejections.values()), None)

    def start(self, items: Sequence[ConfigItem | None]) -> T | Rejection:
        """The object of all sources, None being no value; or why there is none. Raises `MissingDependency`."""
        trees: list[Tree] = []
        for index, item in enumerate(items):
            try:
                trees.append(_read(item))
            except Unusable as error:
                return self._rejection(index, error)
        return self._attempt(trees, list(trees), len(trees) - 1)

    def change(self, index: int, item: ConfigItem | None) -> T | Rejection:
        """The object with the newest value of one source, None being no value; or why that is not used."""
        self._rejections.pop(index, None)
        newest = list(self._newest)
        try:
            newest[index] = _read(item)
        except (Unusable, MissingDependency) as error:
            newest[index] = None
            reason = error if isinstance(error, Unusable) else Unusable(str(error))
            self._newest = newest
            return self._reject(index, self._rejection(index, reason))
        alone, latest = (
            list(self._used),
            [used if new is None else new for used, new in zip(self._used, newest, strict=True)],
        )
        alone[index] = latest[index]
        answer = self._attempt(latest, newest, index)
        if isinstance(answer, Rejection) and any(one is not other for one, other in zip(latest, alone, strict=True)):
            answer = self._attempt(alone, newest, index)
        return self._reject(index, answer) if isinstance(answer, Rejection) else answer

    def defaults(self) -> T:
        """The object of no source at all. Raises `Unusable`."""
        return self.model.build({})

    def _attempt(self, trees: list[Tree], newest: Sequence[Tree | None], index: int) -> T | Rejection:
        """Use these trees if they make an object. ``index``: the source that is to blame in doubt."""
        self._newest = list(newest)
        try:
            value = self.model.build(merged(trees))
        except Unusable as error:
            return self._rejection(holder(error.field, trees, index), error)
        self._used = trees
        # What was refused beside others that are gone now may be in use.
        self._rejections = {one: why for one, why in self._rejections.items() if newest[one] is not trees[one]}
        return value

    def _reject(self, index: int, mistake: Rejection) -> Rejection:
        self._rejections[index] = mistake
        return mistake

    def _rejection(self, index: int, error: Unusable) -> Rejection:
        return Rejection(self.keys[index], str(error), error.field)


def _read(item: ConfigItem | None) -> Tree:
    if item is None:
        return {}
    return parse(item.content, format_of(item.key, item.content_type))
