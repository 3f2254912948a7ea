"""What is declared about backends, as rows of text: the command line and the documentation show the same."""

from __future__ import annotations

from importlib.util import find_spec

from sofa_registry_adapters.engine.plugins import BACKENDS, DISTRIBUTION, Plugins
from sofa_registry_adapters.engine.store_config import config_capabilities
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.settings import SHARED_OPTIONS, table_of, unknown
from sofa_registry_adapters.spi.options import BackendType, Option, Value

UNITS = {"seconds": "s", "bytes": "bytes"}
OPTION_TITLES = ("option", "type", "unit", "default", "range", "meaning")
BACKEND_TITLES = (
    "backend",
    "what it is",
    "shared by",
    "outlives a restart",
    "changes are pushed",
    "dead publisher gone",
    "loss noticed within",
    "largest record",
    "largest configuration value",
    "extra",
)


def backends() -> list[BackendType]:
    """Every backend there is, the ones without a server first. Raises `PluginError`."""
    return sorted(Plugins().backends(), key=lambda one: (bool(one.extra), one.schemes))


def backend_named(name: str) -> BackendType:
    """The backend of a scheme; a whole URL does as well. Raises `InvalidArgument` with the nearest known one."""
    scheme = name.partition(":")[0].lower()
    found = {one: backend for backend in backends() for one in backend.schemes}
    if scheme not in found:
        raise InvalidArgument(unknown("there is no backend", scheme, found))
    return found[scheme]


def is_ours(backend: BackendType) -> bool:
    """Whether the backend comes with this library."""
    return all(scheme in BACKENDS for scheme in backend.schemes)


def install_command(backend: BackendType) -> str:
    """What is still to be installed for it; empty if nothing is."""
    missing = [library for library in backend.libraries if find_spec(library) is None]
    return f"pip install '{DISTRIBUTION}[{backend.extra}]'" if missing and backend.extra else ""


def backend_row(backend: BackendType) -> tuple[str, ...]:
    """The cells under `BACKEND_TITLES`."""
    can = backend.capabilities
    return (
        ", ".join(f"{scheme}://" for scheme in backend.schemes),
        backend.summary,
        _reach(backend),
        "yes" if can.persistent else "no",
        "yes" if can.push else "no, they are polled for",
        _death(backend),
        f"{can.detects_loss_within:g} s",
        _bytes(can.max_value_bytes),
        _bytes(largest_config(backend)),
        backend.extra,
    )


def largest_config(backend: BackendType) -> int:
    """Bytes of the largest configuration value; 0 where no configuration is kept."""
    can = backend.capabilities
    if backend.load_config is None:
        can = config_capabilities(can)
    kept = backend.load_config is not None or (backend.store and can.compare_and_set)
    return (can.max_config_bytes or can.max_value_bytes) if kept else 0


def _bytes(number: int) -> str:
    return f"{number:,} bytes".replace(",", " ") if number else "none"


def _reach(backend: BackendType) -> str:
    if not backend.capabilities.shared:
        return "one process"
    return "many machines" if backend.needs_host else "one machine"


def _death(backend: BackendType) -> str:
    can = backend.capabilities
    if not can.lease:
        return "never by itself"
    if can.notices_death_at_once:
        return f"{can.notices_death_within:g} s"
    return f"{can.liveness} + {can.notices_death_within:g} s"


def capability_rows(backend: BackendType) -> list[tuple[str, str]]:
    """Every declared capability and its value."""
    can = backend.capabilities
    return [(name, value_text(getattr(can, name))) for name in can.__struct_fields__]


def own_options(backend: BackendType) -> list[tuple[str, ...]]:
    """The backend's own options and those shared ones whose default it changes."""
    table = table_of(backend)
    names = [option.name for option in backend.options]
    names += [option.name for option in SHARED_OPTIONS if option.name in backend.defaults]
    return [option_row(table[name]) for name in names]


def all_options(backend: BackendType) -> list[tuple[str, ...]]:
    """Every option of the backend, its own first."""
    return [option_row(option) for option in table_of(backend).values()]


def option_row(option: Option) -> tuple[str, ...]:
    """The cells under `OPTION_TITLES`."""
    return (
        option.name,
        option.kind,
        UNITS.get(option.kind, ""),
        value_text(option.default),
        _range(option),
        option.meaning,
    )


def value_text(value: Value) -> str:
    """A value as it is written in a URL."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _range(option: Option) -> str:
    if option.choices:
        return ", ".join(choice or "(empty)" for choice in option.choices)
    low, high = option.least, option.most
    if low is None or high is None:
        return "" if low is None else f"from {low:.12g}"
    return f"{low:.12g} to {high:.12g}"
