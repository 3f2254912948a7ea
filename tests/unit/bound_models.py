"""Models to bind, the two faces that bind them, and a center for them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from sofa_registry_adapters import Bound, FieldSubscription
from sofa_registry_adapters.bound import AsyncBound
from sofa_registry_adapters.testing.contract.centers import Center, Centers
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.faults import eventually


class Pool(msgspec.Struct, frozen=True):
    size: int = 1
    name: str = "x"


class Settings(msgspec.Struct, frozen=True):
    pool: Pool = Pool()
    limits: dict[str, int] = {}
    debug: bool = False


class Needy(msgspec.Struct, frozen=True):
    url: str
    size: int = 1


class Handled:
    """A bound model of either face, driven from the test's thread."""

    def __init__(self, center: Center, bound: Bound[Any] | AsyncBound[Any]) -> None:
        self.center = center
        self.bound = bound

    @property
    def current(self) -> Any:
        return self.bound.current

    def on(self, field: str, callback: Callable[[Any, Any], object]) -> FieldSubscription:
        place: FieldSubscription = self.center.do(lambda: self.bound.on(field, callback))
        return place

    def steps(self, field: str) -> list[tuple[Any, Any]]:
        """What a callback of the field is told from now on."""
        found: list[tuple[Any, Any]] = []
        self.on(field, lambda old, new: found.append((old, new)))
        return found

    def becomes(self, condition: Callable[[Any], object], seconds: float = 5.0) -> None:
        eventually(lambda: condition(self.bound.current), seconds, "the value is applied")

    def close(self) -> None:
        self.center.do(self.bound.aclose if isinstance(self.bound, AsyncBound) else self.bound.close)


def bind(center: Center, model: type[Any], *sources: Any, **more: Any) -> Handled:
    return Handled(center, center.do(lambda: center.center.bind(model, *sources, **more)))


@pytest.fixture
def centers() -> Iterator[Centers]:
    made = Centers("memory://bind", {"namespace": secrets.token_hex(8), "call_timeout": 1.0})
    yield made
    made.close()


@pytest.fixture(params=("blocking", "async"))
def face(request: pytest.FixtureRequest) -> FaceName:
    found: FaceName = request.param
    return found


@pytest.fixture
def center(centers: Centers, face: FaceName) -> Center:
    return centers.open(face)
