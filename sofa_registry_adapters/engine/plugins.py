"""Finding backends, layouts, listeners and commands: our own first, installed plug-ins only on a miss."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sofa_registry_adapters.errors import InvalidURL, MissingDependency, PluginError, UnknownScheme, Unsupported
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
LISTENER = "listener of "
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

# Named by text, so that the engine imports no backend and a backend is imported on first use.
BACKENDS = {
    "etcd": "sofa_registry_adapters.backends.etcd",
    "etcds": "sofa_registry_adapters.backends.etcd",
    "local": "sofa_registry_adapters.backends.local",
    "memory": "sofa_registry_adapters.backends.memory",
    "nacos": "sofa_registry_adapters.backends.nacos",
    "nacoss": "sofa_registry_adapters.backends.nacos",
    "redis": "sofa_registry_adapters.backends.redis",
    "rediss": "sofa_registry_adapters.backends.redis",
    "redis+sentinel": "sofa_registry_adapters.backends.redis.sentinel",
    "rediss+sentinel": "sofa_registry_adapters.backends.redis.sentinel",
    "redis+cluster": "sofa_registry_adapters.backends.redis.cluster",
    "rediss+cluster": "sofa_registry_adapters.backends.redis.cluster",
    "zookeeper": "sofa_registry_adapters.backends.zookeeper",
    "zk": "sofa_registry_adapters.backends.zookeeper",
    "zookeepers": "sofa_registry_adapters.backends.zookeeper",
    "zks": "sofa_registry_adapters.backends.zookeeper",
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
        self._entries: set[EntryPoint] = set()

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
        """The event listeners of the plug-ins that were given or named, and of no others. Raises `PluginError`: none is missing."""
        if not self._given:
            return []
        found: list[tuple[type[Event], Callable[[Any], object]]] = []
        for plugin, answer in self._ask("listeners", installed=False):
            if plugin.name in self._asked:
                found += answer
        for name in self._asked:
            self._require(self._known[name])
        return found

    def commands(self, taken: Iterable[str]) -> dict[str, Callable[..., object]]:
        """The commands of all plug-ins; ``taken`` are names that no plug-in may use."""
        return self._named("commands", taken)

    def known(self) -> list[Plugin]:
        """Every plug-in there is, those that cannot be used included."""
        for kind in KINDS:
            self._ask(kind)
        origins = dict.fromkeys([*(f"{scheme}://" for scheme in BACKENDS), *(f"layout {one}" for one in LAYOUTS)], "")
        for plugin in self._known.values():
            for name in plugin.adds:
                first = origins.setdefault(name, plugin.name) or DISTRIBUTION
                if first != plugin.name and not name.startswith(LISTENER) and not plugin.problem:
                    plugin.problem = f"{name} is of {first} already: uninstall one of them"
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

    def _ask(self, kind: str, *, installed: bool = True) -> list[tuple[Plugin, Any]]:
        """What each plug-in has of a kind; one that raises is left out and noted."""
        manager = self._manager()
        if installed:
            for entry in _entry_points():
                if entry not in self._entries:
                    self._register_installed(manager, entry)
        answers: list[tuple[Plugin, Any]] = []
        for implementation in getattr(manager.hook, f"sofa_registry_{kind}").get_hookimpls():
            plugin = self._known[implementation.plugin_name]
            try:
                answer = implementation.function()
                if not isinstance(answer, Mapping):
                    # A generator is looked at twice.
                    answer = list(answer)
                names = _names(kind, answer)
            except (Exception, SystemExit) as error:  # noqa: BLE001  somebody else's code, which takes nobody down
                plugin.problem = f"its {kind} cannot be used: {_reason(error)}"
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
        return self._hooks

    def _register_given(self, manager: pluggy.PluginManager) -> None:
        for given in self._given:
            if isinstance(given, str):
                self._register_named(manager, given)
                continue
            plugin = Plugin(self._free(getattr(given, "__name__", type(given).__name__)))
            self._register(manager, plugin, lambda given=given: given)  # type: ignore[misc]
            self._require(plugin)

    def _register_named(self, manager: pluggy.PluginManager, name: str) -> None:
        entries = _entry_points()
        found = [entry for entry in entries if entry.name == name]
        if not found:
            names = [entry.name for entry in entries]
            raise PluginError(unknown(f"no installed plug-in of the group {GROUP} is called", name, names))
        if len(found) > 1:
            both = " and ".join(sorted({_distribution(entry) for entry in found}))
            raise PluginError(f"two plug-ins are called {name!r}, those of {both}: uninstall one of them")
        if found[0] not in self._entries:
            self._require(self._register_installed(manager, found[0]))

    def _require(self, plugin: Plugin) -> None:
        self._asked.add(plugin.name)
        if plugin.problem:
            raise PluginError(f"the plug-in {plugin.name} cannot be used: {plugin.problem}")

    def _register_installed(self, manager: pluggy.PluginManager, entry: EntryPoint) -> Plugin:
        self._entries.add(entry)
        version = entry.dist.version if entry.dist else ""
        plugin = Plugin(self._free(entry.name), version, f"{_distribution(entry)}: {entry.value}")
        if plugin.name == entry.name:
            self._register(manager, plugin, entry.load)
            return plugin
        self._known[plugin.name] = plugin
        plugin.problem = f"another plug-in is called {entry.name!r} already: uninstall one of them"
        return plugin

    def _free(self, name: str) -> str:
        """This name, or one like it if it is taken."""
        return name if name not in self._known else f"{name}-{len(self._known)}"

    def _register(self, manager: pluggy.PluginManager, plugin: Plugin, load: Callable[[], object]) -> None:
        self._known[plugin.name] = plugin
        try:
            loaded = load()
            _check_version(loaded)
            if (twin := manager.get_name(loaded)) is not None:
                raise PluginError(f"it is the same as {twin!r}, which is used")
            manager.register(loaded, name=plugin.name)
            manager.check_pending()
        except (Exception, SystemExit) as error:  # noqa: BLE001  somebody else's code, which takes nobody down
            plugin.problem = str(error) if isinstance(error, PluginError) else _reason(error)
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


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _names(kind: str, answer: Any) -> list[str]:
    """What an answer adds, in words. Raises TypeError for an answer that is not what the hook asks for."""
    if kind == "backends":
        return [f"{scheme}://" for one in answer for scheme in _schemes(one)]
    if kind == "listeners":
        return [f"{LISTENER}{_event(one)}" for one in answer]
    if not isinstance(answer, Mapping):
        raise TypeError(f"names with what they name are asked for, and not a {type(answer).__name__}")
    for name in answer:
        if not isinstance(name, str) or not name or not callable(answer[name]):
            raise TypeError(f"{name!r} with {answer[name]!r} is neither a class nor a function under a name")
    return [f"{kind.removesuffix('s')} {name}" for name in answer]


def _event(listener: Any) -> str:
    from sofa_registry_adapters.model.events import Event

    event, function = listener
    if not isinstance(event, type) or not issubclass(event, Event) or not callable(function):
        raise TypeError(f"{listener!r:.80} is no kind of event with a function")
    return event.__name__


def _schemes(backend: Any) -> tuple[str, ...]:
    if not isinstance(backend, BackendType):
        raise TypeError(f"{backend!r} is not a BackendType")
    schemes: Any = backend.schemes
    if not isinstance(schemes, tuple) or not schemes:
        raise TypeError(f"schemes is a tuple of names, and not {schemes!r}")
    for scheme in schemes:
        if not isinstance(scheme, str) or not SCHEME.fullmatch(scheme):
            raise TypeError(f"{scheme!r} is not a URL scheme: lower-case letters, digits and +.- behind a letter")
    return backend.schemes


def factory(backend: BackendType) -> object:
    """The backend's factory, its client library imported. Raises `MissingDependency` with the command."""
    return _loaded(backend, backend.load)


def config_factory(backend: BackendType) -> object:
    """The factory of the backend's configuration, or of its store. Raises `MissingDependency`, `Unsupported`."""
    if backend.load_config is None and not backend.store:
        raise Unsupported(f"{backend.schemes[0]}:// is a registry without configuration: name another config center")
    return _loaded(backend, backend.load_config or backend.load)


def _loaded(backend: BackendType, load: Callable[[], Callable[..., object]]) -> object:
    try:
        return load()
    except ImportError as error:
        if isinstance(error, MissingDependency) or error.name is None or not backend.extra:
            raise
        if error.name.partition(".")[0] not in backend.libraries:
            raise
        raise MissingDependency(
            f"{backend.schemes[0]}:// needs the library {error.name!r}, which is not installed: "
            f"pip install '{DISTRIBUTION}[{backend.extra}]'"
        ) from None
