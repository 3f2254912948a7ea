"""From mappings to objects of a user's class: Structs, dataclasses, models of pydantic; and what is said of mistakes."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from model_kinds import SECRET, PlainPool, StructPool, refused

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.typed.models import Model, model_of, value_at, without_values


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class StructSettings(msgspec.Struct):
    url: str
    pool: StructPool = msgspec.field(default_factory=StructPool)
    pools: list[StructPool] = []
    limits: dict[str, StructPool] = {}
    level: Level = Level.LOW
    enabled: bool = False
    ratio: float = 0.5
    spare: StructPool | None = None
    extra: Any = None

    def __post_init__(self) -> None:
        if self.url == f"bad {SECRET}":
            raise ValueError(f"the url {self.url} cannot be used")
        if self.url == f"worse {SECRET}":
            raise RuntimeError(self.url)


@dataclasses.dataclass
class PlainSettings:
    url: str
    pool: PlainPool = dataclasses.field(default_factory=PlainPool)
    pools: list[PlainPool] = dataclasses.field(default_factory=list)
    limits: dict[str, PlainPool] = dataclasses.field(default_factory=dict)
    level: Level = Level.LOW
    enabled: bool = False
    ratio: float = 0.5
    spare: PlainPool | None = None
    extra: Any = None

    def __post_init__(self) -> None:
        if self.url == f"bad {SECRET}":
            raise ValueError(f"the url {self.url} cannot be used")
        if self.url == f"worse {SECRET}":
            raise RuntimeError(self.url)


class PydanticPool(pydantic.BaseModel):
    size: int = pydantic.Field(1, ge=1)
    name: str = "x"


class PydanticSettings(pydantic.BaseModel):
    url: str
    pool: PydanticPool = PydanticPool()
    pools: list[PydanticPool] = []
    limits: dict[str, PydanticPool] = {}
    level: Level = Level.LOW
    enabled: bool = False
    ratio: float = 0.5
    spare: PydanticPool | None = None
    extra: Any = None

    @pydantic.field_validator("url")
    @classmethod
    def usable(cls, url: str) -> str:
        if url == f"bad {SECRET}":
            raise ValueError(f"the url {url} cannot be used")
        if url == f"worse {SECRET}":
            raise RuntimeError(url)
        return url


@pydantic.dataclasses.dataclass
class PydanticPlainSettings:
    url: str
    pool: PydanticPool = dataclasses.field(default_factory=PydanticPool)
    pools: list[PlainPool] = dataclasses.field(default_factory=list)
    limits: dict[str, PydanticPool] = dataclasses.field(default_factory=dict)
    level: Level = Level.LOW
    enabled: bool = False
    ratio: float = 0.5
    spare: PydanticPool | None = None
    extra: Any = None


KINDS = (StructSettings, PlainSettings, PydanticSettings, PydanticPlainSettings)
VALIDATING = KINDS[:3]


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_a_mapping_becomes_an_object(self, kind: type[Any]) -> None:
        tree = {
            "url": "u",
            "pool": {"size": 5},
            "pools": [{"name": "a"}],
            "limits": {"eu": {"size": 2}},
            "level": "high",
            "extra": {"any": [1]},
        }
        found = model_of(kind, strict=True).build(tree)
        assert type(found) is kind
        assert (found.url, found.pool.size, found.pool.name, found.pools[0].name) == ("u", 5, "x", "a")
        assert (found.limits["eu"].size, found.level, found.extra) == (2, Level.HIGH, {"any": [1]})

    def test_text_as_in_an_environment_is_converted(self, kind: type[Any]) -> None:
        tree = {"url": "u", "pool": {"size": "5", "name": "7"}, "enabled": "true", "ratio": "0.25"}
        found = model_of(kind, strict=True).build(tree)
        assert (found.pool.size, found.pool.name, found.enabled, found.ratio) == (5, "7", True, 0.25)

    @pytest.mark.parametrize(
        ("change", "field"),
        (
            ({"pool": {"size": SECRET}}, "pool.size"),
            ({"pool": {"size": 0}}, "pool.size"),
            ({"pool": SECRET}, "pool"),
            ({"pools": [{}, {"size": SECRET}]}, "pools[1].size"),
            ({"level": SECRET}, "level"),
            ({"enabled": SECRET}, "enabled"),
            ({"ratio": [SECRET]}, "ratio"),
            ({"url": None}, "url"),
        ),
    )
    def test_the_field_that_is_wrong_is_named_and_no_value(
        self, kind: type[Any], change: dict[str, Any], field: str
    ) -> None:
        mistake = refused(kind, {"url": "u", **change})
        assert mistake.field == field
        assert str(mistake) == f"{field}: {mistake.reason}"
        assert mistake.reason

    def test_a_missing_one_is_named(self, kind: type[Any]) -> None:
        assert str(refused(kind, {})) == "url: it is missing"

    def test_names_that_are_not_known_are_left_out_unless_it_is_strict(self, kind: type[Any]) -> None:
        tree = {"url": "u", "pool": {"sise": 5}, "other": SECRET}
        assert model_of(kind, strict=False).build(tree).pool.size == 1
        assert str(refused(kind, tree, strict=True)) == "pool.sise: it is not known: did you mean 'size'?"
        assert str(refused(kind, {"url": "u", "zzz": SECRET}, strict=True)) == "zzz: it is not known"
        assert refused(kind, {"url": "u", 1: SECRET}, strict=True).field == "1"
        deep = {"url": "u", "pools": [{}, {"nam": 1}]}
        assert str(refused(kind, deep, strict=True)) == "pools[1].nam: it is not known: did you mean 'name'?"
        held = {"url": "u", "limits": {"eu": {"nam": 1}}}
        assert str(refused(kind, held, strict=True)) == "limits.eu.nam: it is not known: did you mean 'name'?"
        spare = {"url": "u", "spare": {"nam": 1}}
        assert refused(kind, spare, strict=True).field == "spare.nam"
        assert model_of(kind, strict=True).build({"url": "u", "extra": {"any": {"thing": 1}}, "spare": None})

    @pytest.mark.parametrize(
        ("path", "hint"),
        (
            ("pool.sise", "there is no 'sise': did you mean 'size'?"),
            ("poll", "there is no 'poll': did you mean 'pool'?"),
            ("pool.size.x", "there is no 'x'"),
            ("zzz", "there is no 'zzz'"),
            ("", "pool.size"),
            ("pool.", "pool.size"),
            (None, "pool.size"),
        ),
    )
    def test_a_field_that_there_cannot_be(self, kind: type[Any], path: Any, hint: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            model_of(kind, strict=False).steps(path)
        assert hint in str(caught.value)

    @pytest.mark.parametrize(
        "path", ("pool", "pool.size", "limits.eu", "limits.eu.size", "extra.any.thing", "spare.size")
    )
    def test_a_field_that_there_may_be(self, kind: type[Any], path: str) -> None:
        assert model_of(kind, strict=False).steps(path) == path.split(".")

    def test_what_a_field_is(self, kind: type[Any]) -> None:
        found = model_of(kind, strict=False).build({"url": "u", "limits": {"eu": {"size": 2}}, "extra": {"a": 1}})
        assert value_at(found, ["pool", "size"]) == 1
        assert value_at(found, ["limits", "eu", "size"]) == 2
        assert value_at(found, ["extra", "a"]) == 1
        for nowhere in (["limits", "us", "size"], ["spare", "size"], ["extra", "b"]):
            assert value_at(found, nowhere) is None


@pytest.mark.parametrize("kind", VALIDATING)
class TestCodeOfTheClass:
    def test_its_words_are_passed_on_without_the_value(self, kind: type[Any]) -> None:
        mistake = refused(kind, {"url": f"bad {SECRET}"})
        assert "the url … cannot be used" in str(mistake)

    def test_whatever_it_raises_is_a_refusal(self, kind: type[Any]) -> None:
        assert str(refused(kind, {"url": f"worse {SECRET}"})) == f"{kind.__name__} raised RuntimeError"


class TestWords:
    @pytest.mark.parametrize(
        ("text", "value", "expected"),
        (
            ("the url a b is bad", "a b", "the url … is bad"),
            ("'it''s' is bad", "it''s", "'…' is bad"),
            ("size 7 is above 70", 7, "size … is above 70"),
            (repr("two\nlines") + " is bad", "two\nlines", "'…' is bad"),
            ("min is above maximum", "max", "min is above maximum"),
            ("nothing", "", "nothing"),
            ("True is None", True, "True is None"),
            ("1.5 is too much", 1.5, "… is too much"),
        ),
    )
    def test_values_are_left_out(self, text: str, value: object, expected: str) -> None:
        assert without_values(text, {"a": {"b": [value]}}) == expected

    def test_pydantic_says_how_many_more(self) -> None:
        mistake = refused(PydanticSettings, {"pool": {"size": SECRET, "name": 5}, "level": SECRET})
        assert mistake.field == "url"
        assert str(mistake).endswith("(and 3 more)")

    def test_a_tag_that_is_none_is_not_shown(self) -> None:
        class Cat(pydantic.BaseModel):
            kind: Literal["cat"] = "cat"

        class Dog(pydantic.BaseModel):
            kind: Literal["dog"] = "dog"

        class Home(pydantic.BaseModel):
            pet: Cat | Dog = pydantic.Field(Cat(), discriminator="kind")

        assert refused(Home, {"pet": {"kind": SECRET}}).field == "pet"

        assert refused(Paint, {"colour": {"type": SECRET}}).field == "colour.type"
        assert model_of(Paint, strict=True).build({"colour": {"type": "Blue"}}) == Paint(Blue())

    def test_a_key_that_does_not_fit(self) -> None:
        assert model_of(Ports, strict=True).build({"names": {"80": "a", 81: "b"}}) == Ports({80: "a", 81: "b"})
        assert str(refused(Ports, {"names": {SECRET: "x"}})) == "names: a name in it: expected `int`, got `str`"


class Red(msgspec.Struct, tag=True):
    pass


class Blue(msgspec.Struct, tag=True):
    pass


class Paint(msgspec.Struct):
    colour: Red | Blue


class Ports(msgspec.Struct):
    names: dict[int, str] = {}


def test_neither_pydantic_nor_yaml_is_imported_for_others() -> None:
    code = """
import sys, dataclasses, msgspec
from sofa_registry_adapters import ConfigCenter
class Struct(msgspec.Struct):
    size: int = 1
@dataclasses.dataclass
class Plain:
    size: int = 1
with ConfigCenter("memory://x") as config:
    config.publish("a.json", '{"size": 2}', content_type="json")
    config.publish("b.toml", 'size = 3', content_type="toml")
    config.publish("c.properties", 'size = 4', content_type="properties")
    for kind in (Struct, Plain):
        assert [config.bind(kind, key).current.size for key in ("a.json", "b.toml", "c.properties")] == [2, 3, 4]
sys.exit(bool({"pydantic", "pydantic_core", "yaml"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_a_model_is_built_anew_each_time() -> None:
    """What a user does to one object, another one does not see."""
    builders: list[Callable[[], Any]] = []
    for kind in KINDS:
        model: Model[Any] = model_of(kind, strict=False)
        builders.append(lambda model=model: model.build({"url": "u"}))  # type: ignore[misc]
    for build in builders:
        build().pools.append("mine")
        assert build().pools == []
