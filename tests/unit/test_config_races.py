"""A config center at bad moments: what comes between two steps is neither lost nor waited for in vain."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

import pytest

from sofa_registry_adapters import ConfigCenter, Registry
from sofa_registry_adapters.errors import Closed
from sofa_registry_adapters.testing.contract.centers import Centers
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.faults import eventually


@pytest.fixture
def centers() -> Iterator[Centers]:
    made = Centers("memory://races", {"namespace": secrets.token_hex(8)})
    yield made
    made.close()


@pytest.mark.parametrize("face", ("blocking", "async"))
@pytest.mark.parametrize("required", (True, False))
def test_a_change_while_the_first_object_is_made_is_not_lost(centers: Centers, face: FaceName, required: bool) -> None:
    center, other = centers.open(face), centers.open("blocking")
    center.publish("k.json", '{"size": 1}')

    @dataclasses.dataclass
    class Slow:
        size: int = 0
        made: ClassVar[list[int]] = []

        def __post_init__(self) -> None:
            if self.size == 1 and not self.made:
                self.made.append(1)
                other.publish("k.json", '{"size": 2}')
                eventually(lambda: follower(center).source.shown().revision.startswith("memory:2-"), 5, "it is there")

    bound = center.do(lambda: center.center.bind(Slow, "k.json", required=required))
    eventually(lambda: bound.current.size == 2, 5, "the change is applied")
    center.publish("k.json", '{"size": 3}')
    eventually(lambda: bound.current.size == 3, 5, "a later change is applied")


def follower(center: Any) -> Any:
    [found] = center.center._session.engine._mirrors
    return found


def before_it_is_followed(client: Any, do: Callable[[], object]) -> None:
    """Let ``do`` run right before the engine begins to follow."""
    engine = client._session.engine
    attach = engine.attach

    def late(*given: Any, **more: Any) -> Coroutine[Any, Any, Any]:
        doing = threading.Thread(target=do)
        doing.start()
        doing.join()
        work: Coroutine[Any, Any, Any] = attach(*given, **more)
        return work

    engine.attach = late


@pytest.mark.parametrize("kind", (ConfigCenter, Registry))
@pytest.mark.parametrize("required", (True, False))
def test_a_watch_that_a_close_was_faster_than_is_refused(kind: type[ConfigCenter | Registry], required: bool) -> None:
    """The engine's thread goes on for another one, so that nothing else ends the watch."""
    with kind("memory://") as other, kind("memory://") as client:
        other.open()
        before_it_is_followed(client, client.close)
        with pytest.raises(Closed, match="make a new one"):
            client.watch("k", required=required, timeout=2)
