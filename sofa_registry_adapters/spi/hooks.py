"""Extension points, called through pluggy. Each returns values; none is given the engine.

A plugin is a module, or any object, with functions of these names marked with `hookimpl`. The entry-point
group is ``sofa_registry_adapters``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from sofa_registry_adapters.spi.layout import ServiceLayout
    from sofa_registry_adapters.spi.options import BackendType

PROJECT = "sofa_registry_adapters"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def sofa_registry_backends() -> Sequence[BackendType]:  # type: ignore[empty-body]
    """Backends, each found by its URL schemes."""


@hookspec
def sofa_registry_layouts() -> Mapping[str, type[ServiceLayout]]:  # type: ignore[empty-body]
    """Layouts by name, for ``?layout=name``."""
