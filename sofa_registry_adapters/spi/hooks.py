"""Extension points, called through pluggy. Each returns values; none is given the engine.

A plug-in is a module, or any object, with functions of these names marked with `hookimpl`. An installed
one is an entry point of the group ``sofa_registry_adapters``. What is found by name (backends, layouts,
commands) is looked for in installed plug-ins only when our own have no such name; event listeners act only if their
plug-in is named, in ``sofa-registry.toml`` or in ``Registry(url, plugins=[…])``.

A plug-in says with the attribute ``sofa_registry_spi`` for which version of this SPI it was made (1 without
it); one made for a newer version than `SPI_VERSION` is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from sofa_registry_adapters.model.events import Event
    from sofa_registry_adapters.spi.layout import ServiceLayout
    from sofa_registry_adapters.spi.options import BackendType

PROJECT = "sofa_registry_adapters"
SPI_VERSION = 1

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(PROJECT)
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(PROJECT)


@hookspec
def sofa_registry_backends() -> Sequence[BackendType]:  # type: ignore[empty-body]
    """Backends and stores, each found by its URL schemes."""


@hookspec
def sofa_registry_layouts() -> Mapping[str, type[ServiceLayout]]:  # type: ignore[empty-body]
    """Layouts by name, for ``?layout=name``."""


@hookspec
def sofa_registry_listeners() -> Sequence[tuple[type[Event], Callable[[Any], object]]]:  # type: ignore[empty-body]
    """Event listeners, each with the kind of event that it wants."""


@hookspec
def sofa_registry_commands() -> Mapping[str, Callable[..., object]]:  # type: ignore[empty-body]
    """Commands of ``sofa-registry`` by name: functions as typer takes them."""
