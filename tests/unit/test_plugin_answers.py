"""What a plug-in's hooks answer: as a generator, not at all, or with a mistake; nothing of it is lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.errors import PluginError
from sofa_registry_adapters.events import Event, Published
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType
from sofa_registry_adapters.testing.faults import eventually


class Generating:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    @hookimpl
    def sofa_registry_listeners(self) -> Iterator[tuple[type[Event], Callable[[Any], object]]]:
        yield Published, self.seen.append

    @hookimpl
    def sofa_registry_backends(self) -> Iterator[BackendType]:
        yield msgspec.structs.replace(memory.BACKEND, schemes=("generated",))


def test_a_hook_may_be_a_generator() -> None:
    plugin = Generating()
    with Registry("generated://", plugins=[plugin]) as registry:
        registry.publish("echo", "10.0.0.1:80")
        eventually(lambda: len(plugin.seen) == 1, 5, "it is told")


def failing() -> object:
    raise ValueError("no server to send to")


@pytest.mark.parametrize(
    ("answer", "said"),
    (
        (failing, "its listeners cannot be used: ValueError: no server to send to"),
        (lambda: None, "its listeners cannot be used: TypeError"),
        (lambda: [("Published", print)], "is no kind of event with a function"),
        (lambda: [(Published, None)], "is no kind of event with a function"),
    ),
)
def test_a_plug_in_that_was_asked_for_is_never_without_its_listeners(answer: Callable[[], Any], said: str) -> None:
    class Wrong:
        @hookimpl
        def sofa_registry_listeners(self) -> Any:
            return answer()

    with pytest.raises(PluginError, match=said):
        Registry("memory://", plugins=[Wrong()])
