"""From mappings to objects of a user's class: Structs, dataclasses, models of pydantic; and what is said of mistakes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NewType

import msgspec
import pydantic
import pytest

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.typed.bounds import Unusable
from sofa_registry_adapters.typed.models import Model, model_of, value_at, without_values

SECRET = "hunter2"


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class StructPool(msgspec.Struct):
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    name: str = "x"


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


@dataclasses.dataclass(frozen=True)
class PlainPool:
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    name: str = "x"


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


def refused(kind: type[Any], tree: dict[Any, Any], *, strict: bool = False) -> Unusable:
    with pytest.raises(Unusable) as caught:
        model_of(kind, strict=strict).build(tree)
    assert SECRET not in str(caught.value)
    return caught.value


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


class TestNames:
    def test_a_struct_may_call_fields_otherwise(self) -> None:
        model = model_of(Outer, strict=True)
        assert model.build({"the-pool": {"maxSize": 4}}) == Outer(Inner(4))
        assert model.steps("the_pool.max_size")
        assert refused(Outer, {"the-pool": {"maxSize": "x"}}).field == "the-pool.maxSize"
        assert "did you mean 'the-pool'?" in str(refused(Outer, {"the_pool": {}})), "the class says so itself"
        assert "did you mean 'maxSize'?" in str(refused(Outer, {"the-pool": {"max_size": 1}}, strict=True))

    def test_a_model_of_pydantic_may_have_aliases_and_more(self) -> None:
        class Aliased(pydantic.BaseModel):
            a: int = pydantic.Field(1, alias="one")
            b: int = pydantic.Field(2, validation_alias=pydantic.AliasChoices("two", pydantic.AliasPath("deep", "two")))

        found = model_of(Aliased, strict=True).build({"one": 10, "deep": {"two": 20}})
        assert (found.a, found.b) == (10, 20)
        assert "did you mean 'one'?" in str(refused(Aliased, {"onn": 1}, strict=True))

        class Open(pydantic.BaseModel, extra="allow"):
            a: int = 1

        assert model_of(Open, strict=True).build({"b": 1}).a == 1

        class Closed(pydantic.BaseModel, extra="forbid"):
            size: int = 1

        assert str(refused(Closed, {"sise": SECRET})) == "sise: it is not known: did you mean 'size'?"

    def test_types_with_other_names_are_looked_through(self) -> None:
        for tree in (
            {"pool": {"sise": 1}},
            {"pools": {"a": [{}, {"sise": 1}]}},
            {"other": {"sise": 1}},
        ):
            assert "did you mean 'size'?" in str(refused(Wrapped, tree, strict=True))

    def test_a_model_that_has_itself_inside(self) -> None:
        model = model_of(Node, strict=True)
        assert model.build({"next": {"next": {"size": 3}}}).next.next.size == 3  # type: ignore[union-attr]
        assert refused(Node, {"next": {"next": {"sise": 3}}}, strict=True).field == "next.next.sise"
        assert model.steps("next.next.next.size")

    def test_dates_and_decimals(self) -> None:
        @dataclasses.dataclass
        class Terms:
            day: dt.date | None = None
            rate: decimal.Decimal = decimal.Decimal(1)
            wait: dt.timedelta = dt.timedelta(0)

        expected = Terms(dt.date(2026, 1, 31), decimal.Decimal("1.5"), dt.timedelta(seconds=90))
        assert model_of(Terms, strict=False).build({"day": "2026-01-31", "rate": "1.5", "wait": "PT90S"}) == expected
        assert model_of(Terms, strict=False).build({"day": dt.date(2026, 1, 31), "rate": 1.5, "wait": 90}) == expected


class Red(msgspec.Struct, tag=True):
    pass


class Blue(msgspec.Struct, tag=True):
    pass


class Paint(msgspec.Struct):
    colour: Red | Blue


class Ports(msgspec.Struct):
    names: dict[int, str] = {}


class Inner(msgspec.Struct, rename="camel"):
    max_size: int = 1


class Outer(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    the_pool: Inner = msgspec.field(default_factory=Inner)


named = NewType("named", StructPool)


class Wrapped(msgspec.Struct):
    pool: Annotated[StructPool | None, msgspec.Meta(description="a pool")] = None
    pools: Mapping[str, tuple[StructPool, ...]] = {}
    other: named | None = None  # type: ignore[valid-type]


class Unresolved(msgspec.Struct):
    pool: Nowhere | None = None  # type: ignore[name-defined] # noqa: F821


class Late(pydantic.BaseModel):
    pool: Nowhere | None = None  # type: ignore[name-defined] # noqa: F821


class Node(msgspec.Struct):
    size: int = 1
    next: Node | None = None


class TestWhatIsNoModel:
    @pytest.mark.parametrize(
        "kind", (dict, int, None, "Settings", StructPool(), PlainPool(), enum.Enum, list[StructPool])
    )
    def test_it_is_refused(self, kind: Any) -> None:
        with pytest.raises(InvalidArgument, match="Struct, a dataclass or a model of pydantic"):
            model_of(kind, strict=False)

    def test_one_of_pydantic_1_is_refused(self) -> None:
        from pydantic import v1

        class Old(v1.BaseModel):
            size: int = 1

        with pytest.raises(InvalidArgument, match="pydantic 2"):
            model_of(Old, strict=False)

    def test_types_that_cannot_be_converted_to(self) -> None:
        @dataclasses.dataclass
        class Both:
            pool: StructPool | PlainPool | None = None

        for kind in (Both, Unresolved, Late):
            with pytest.raises(InvalidArgument, match="cannot be bound"):
                model_of(kind, strict=False)


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
