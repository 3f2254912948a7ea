"""Finding backends and layouts by name: our own first, plug-ins only on a miss."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from sofa_registry_adapters.errors import InvalidURL, MissingDependency, PluginError, UnknownScheme
from sofa_registry_adapters.settings import unknown
from sofa_registry_adapters.spi.options import BackendType

if TYPE_CHECKING:
    import pluggy

    from sofa_registry_adapters.spi.layout import ServiceLayout

T = TypeVar("T")
GROUP = "sofa_registry_adapters"
DISTRIBUTION = "sofa-registry-adapters"

# Named by text, so that the engine imports no backend and a backend is imported on first use.
BACKENDS = {
    "local": "sofa_registry_adapters.backends.local",
    "memory": "sofa_registry_adapters.backends.memory",
    "redis": "sofa_registry_adapters.backends.redis",
    "rediss": "sofa_registry_adapters.backends.redis",
    "zookeeper": "sofa_registry_adapters.backends.zookeeper",
    "zk": "sofa_registry_adapters.backends.zookeeper",
}
LAYOUTS = {"native": "sofa_registry_adapters.layouts.native:NativeLayout"}


class Plugins:
    """What can be found: built-in names, the plug-ins given by hand, and installed ones on a miss."""

    def __init__(self, given: Iterable[object] = ()) -> None:
        self._given = tuple(given)
        self._hooks: pluggy.PluginManager | None = None

    def backend(self, scheme: str) -> BackendType:
        """The backend of a URL scheme. Raises `UnknownScheme` with the nearest known one."""
        if scheme in BACKENDS:
            found: BackendType = importlib.import_module(BACKENDS[scheme]).BACKEND
            return found
        others = self._backends()
        if scheme in others:
            return others[scheme]
        raise UnknownScheme(unknown("no backend for the URL scheme", scheme, [*BACKENDS, *others]))

    def backends(self) -> list[BackendType]:
        """Every backend there is, our own and those of plug-ins."""
        modules = dict.fromkeys(BACKENDS.values())
        own = [importlib.import_module(name).BACKEND for name in modules]
        return [*own, *{id(one): one for one in self._backends().values()}.values()]

    def layout(self, name: str) -> type[ServiceLayout]:
        """The layout of that name. Raises `InvalidURL` with the nearest known one."""
        if name in LAYOUTS:
            module, _, attribute = LAYOUTS[name].partition(":")
            found: type[ServiceLayout] = getattr(importlib.import_module(module), attribute)
            return found
        others: dict[str, type[ServiceLayout]] = self._merge("layouts", self._manager().hook.sofa_registry_layouts())
        if name in others:
            return others[name]
        raise InvalidURL(unknown("no layout is called", name, [*LAYOUTS, *others]))

    def _backends(self) -> dict[str, BackendType]:
        found = self._manager().hook.sofa_registry_backends()
        return self._merge("backends", [{scheme: one for one in group for scheme in one.schemes} for group in found])

    @staticmethod
    def _merge(kind: str, groups: Iterable[Mapping[str, T]]) -> dict[str, T]:
        merged: dict[str, T] = {}
        for group in groups:
            for name, found in group.items():
                if name in merged or name in BACKENDS or name in LAYOUTS:
                    raise PluginError(f"two {kind} are called {name!r}: {merged.get(name)!r:.80} and {found!r:.80}")
                merged[name] = found
        return merged

    def _manager(self) -> pluggy.PluginManager:
        if self._hooks is None:
            self._hooks = _load(self._given)
        return self._hooks


def _load(given: Iterable[object]) -> pluggy.PluginManager:
    import pluggy

    from sofa_registry_adapters.spi import hooks

    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    for plugin in given:
        manager.register(plugin)
    try:
        manager.load_setuptools_entrypoints(GROUP)
        manager.check_pending()
    except (ImportError, AttributeError, pluggy.PluginValidationError) as error:
        raise PluginError(f"an installed plug-in of the group {GROUP} cannot be loaded: {error}") from error
    return manager


def factory(backend: BackendType) -> object:
    """The backend's factory, its client library imported. Raises `MissingDependency` with the command."""
    try:
        return backend.load()
    except ImportError as error:
        if isinstance(error, MissingDependency) or error.name is None or not backend.extra:
            raise
        if error.name.partition(".")[0] not in backend.libraries:
            raise
        raise MissingDependency(
            f"{backend.schemes[0]}:// needs the library {error.name!r}, which is not installed: "
            f"pip install '{DISTRIBUTION}[{backend.extra}]'"
        ) from None
