"""Finding backends, layouts, listeners and commands: our own first, installed plug-ins only on a miss."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sofa_registry_adapters.errors import InvalidURL, MissingDependency, PluginError, UnknownScheme
from sofa_registry_adapters.settings import unknown
from sofa_registry_adapters.spi.options import BackendType

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import pluggy

    from sofa_registry_adapters.model.events import Event
    from sofa_registry_adapters.spi.layout import ServiceLayout

T = TypeVar("T")
GROUP = "sofa_registry_adapters"
DISTRIBUTION = "sofa-registry-adapters"
KINDS = ("backends", "layouts", "listeners", "commands")

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


class Plugin(msgspec.Struct):
    """One plug-in: where it comes from, what it adds, and why it is not used if it is not."""

    name: str
    version: str = ""
    origin: str = "given by hand"
    adds: list[str] = []
    problem: str = ""


class Plugins:
    """What can be found: built-in names, plug-ins given by hand or named, and installed ones on a miss.

    ``given`` has objects, or names of installed plug-ins. One that cannot be loaded is left out, noted in `known`, and
    takes no other down; one that was given or named by the user raises `PluginError`.
    """

    def __init__(self, given: Iterable[object] = ()) -> None:
        self._given = tuple(given)
        self._hooks: pluggy.PluginManager | None = None
        self._known: dict[str, Plugin] = {}
        self._asked: set[str] = set()

    def backend(self, scheme: str) -> BackendType:
        """The backend of a URL scheme. Raises `UnknownScheme` with the nearest known one."""
        if scheme in BACKENDS:
            found: BackendType = importlib.import_module(BACKENDS[scheme]).BACKEND
            return found
        others = self._backends()
        if scheme in others:
            return others[scheme]
        problems = "".join(
            f"; the plug-in {one.name} is not used: {one.problem}" for one in self.known() if one.problem
        )
        raise UnknownScheme(unknown("no backend for the URL scheme", scheme, [*BACKENDS, *others]) + problems)

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
        others: dict[str, type[ServiceLayout]] = self._named("layouts", LAYOUTS)
        if name in others:
            return others[name]
        raise InvalidURL(unknown("no layout is called", name, [*LAYOUTS, *others]))

    def listeners(self) -> list[tuple[type[Event], Callable[[Any], object]]]:
        """The event listeners of the plug-ins that were given or named, and of no others."""
        if not self._given:
            return []
        found: list[tuple[type[Event], Callable[[Any], object]]] = []
        for plugin, answer in self._ask("listeners"):
            if plugin.name in self._asked:
                found += answer
        return found

    def commands(self, taken: Iterable[str]) -> dict[str, Callable[..., object]]:
        """The commands of all plug-ins; ``taken`` are names that no plug-in may use."""
        return self._named("commands", taken)

    def known(self) -> list[Plugin]:
        """Every plug-in there is, those that cannot be used included."""
        for kind in KINDS:
            self._ask(kind)
        return list(self._known.values())

    def _backends(self) -> dict[str, BackendType]:
        groups = [
            (plugin, {scheme: one for one in answer for scheme in one.schemes})
            for plugin, answer in self._ask("backends")
        ]
        return self._merged("backends", groups, BACKENDS)

    def _named(self, kind: str, taken: Iterable[str]) -> dict[str, Any]:
        return self._merged(kind, self._ask(kind), taken)

    @staticmethod
    def _merged(kind: str, groups: Sequence[tuple[Plugin, Mapping[str, T]]], taken: Iterable[str]) -> dict[str, T]:
        merged: dict[str, T] = {}
        origins = dict.fromkeys(taken, DISTRIBUTION)
        for plugin, group in groups:
            for name, found in group.items():
                if name in origins:
                    raise PluginError(f"two {kind} are called {name!r}: one of {origins[name]}, one of {plugin.name}")
                merged[name], origins[name] = found, plugin.name
        return merged

    def _ask(self, kind: str) -> list[tuple[Plugin, Any]]:
        """What each plug-in has of a kind; one that raises is left out and noted."""
        manager = self._manager()
        answers: list[tuple[Plugin, Any]] = []
        for implementation in getattr(manager.hook, f"sofa_registry_{kind}").get_hookimpls():
            plugin = self._known[implementation.plugin_name]
            try:
                answer = implementation.function()
                names = _names(kind, answer)
            except Exception as error:  # noqa: BLE001  somebody else's code, which takes nobody down
                plugin.problem = f"its {kind} cannot be asked for: {type(error).__name__}: {error}"
                continue
            plugin.adds += [name for name in names if name not in plugin.adds]
            answers.append((plugin, answer))
        return answers

    def _manager(self) -> pluggy.PluginManager:
        if self._hooks is None:
            import pluggy

            from sofa_registry_adapters.spi import hooks

            self._hooks = pluggy.PluginManager(hooks.PROJECT)
            self._hooks.add_hookspecs(hooks)
            self._register_given(self._hooks)
            for entry in _entry_points():
                if entry.name not in self._known:
                    self._register_installed(self._hooks, entry)
        return self._hooks

    def _register_given(self, manager: pluggy.PluginManager) -> None:
        for given in self._given:
            if isinstance(given, str):
                self._register_named(manager, given)
                continue
            name = getattr(given, "__name__", type(given).__name__)
            plugin = Plugin(name if name not in self._known else f"{name}-{len(self._known)}")
            self._register(manager, plugin, lambda given=given: given)  # type: ignore[misc]
            self._require(plugin)

    def _register_named(self, manager: pluggy.PluginManager, name: str) -> None:
        installed = {entry.name: entry for entry in _entry_points()}
        if name not in installed:
            raise PluginError(unknown(f"no installed plug-in of the group {GROUP} is called", name, installed))
        self._require(self._register_installed(manager, installed[name]))

    def _require(self, plugin: Plugin) -> None:
        self._asked.add(plugin.name)
        if plugin.problem:
            raise PluginError(f"the plug-in {plugin.name} cannot be used: {plugin.problem}")

    def _register_installed(self, manager: pluggy.PluginManager, entry: EntryPoint) -> Plugin:
        distribution = entry.dist
        plugin = Plugin(entry.name, distribution.version if distribution else "", entry.value)
        self._register(manager, plugin, entry.load)
        return plugin

    def _register(self, manager: pluggy.PluginManager, plugin: Plugin, load: Callable[[], object]) -> None:
        self._known[plugin.name] = plugin
        try:
            loaded = load()
            _check_version(loaded)
            manager.register(loaded, name=plugin.name)
            manager.check_pending()
        except Exception as error:  # noqa: BLE001  somebody else's code, which takes nobody down
            plugin.problem = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            if manager.has_plugin(plugin.name):
                manager.unregister(name=plugin.name)


def _entry_points() -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda entry: entry.name)


def _check_version(loaded: object) -> None:
    from sofa_registry_adapters.spi.hooks import SPI_VERSION

    version = getattr(loaded, "sofa_registry_spi", 1)
    if not isinstance(version, int) or version > SPI_VERSION:
        raise PluginError(
            f"it was made for version {version} of the SPI, and this is version {SPI_VERSION}: upgrade {DISTRIBUTION}"
        )


def _names(kind: str, answer: Any) -> list[str]:
    if kind == "backends":
        return [f"{scheme}://" for one in answer for scheme in one.schemes]
    if kind == "listeners":
        return [f"listener of {event.__name__}" for event, _ in answer]
    return [f"{kind.removesuffix('s')} {name}" for name in answer]


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
