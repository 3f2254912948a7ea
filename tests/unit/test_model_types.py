"""The types that a user's class may be made of: names of fields, wrapped types, and what is no model."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
from collections.abc import Mapping
from typing import Annotated, Any, NewType

import msgspec
import pydantic
import pytest
from model_kinds import SECRET, PlainPool, StructPool, refused

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.typed.models import model_of


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
