"""The same settings as a Struct, a dataclass and models of pydantic."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import msgspec
import pytest

from sofa_registry_adapters.typed.bounds import Unusable
from sofa_registry_adapters.typed.models import model_of

SECRET = "hunter2"


class StructPool(msgspec.Struct):
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    name: str = "x"


@dataclasses.dataclass(frozen=True)
class PlainPool:
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    name: str = "x"


def refused(kind: type[Any], tree: dict[Any, Any], *, strict: bool = False) -> Unusable:
    with pytest.raises(Unusable) as caught:
        model_of(kind, strict=strict).build(tree)
    assert SECRET not in str(caught.value)
    return caught.value
