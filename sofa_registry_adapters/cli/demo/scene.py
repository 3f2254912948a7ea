"""Where the demo plays: a registry's URL with a namespace of its own, and how fast that registry has to be."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.named import DEFAULT_URL, find_settings
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.settings import table_of
from sofa_registry_adapters.spi.options import BackendType, Value

LEASE = 2.0
"""Seconds: short, so that a killed provider is missed soon."""
HOLD = 1.0
MARGIN = 4.0
"""Seconds on top of what is promised, for a busy machine and for servers that grant a longer lease."""
_LEASES = ("lease", "session_timeout")


class Scene(NamedTuple):
    """A registry to play on."""

    url: str
    shown: str
    namespace: str
    death_within: float
    """Seconds within which a killed provider has to be gone."""
    at_once: bool
    """Whether a killed provider is noticed without waiting for a lease."""


@contextlib.contextmanager
def scene(url: str | None, lease: float | None) -> Iterator[Scene]:
    """The registry of ``url``, or one in a temporary folder where nobody named any. Raises `InvalidArgument`."""
    settings = find_settings(url)
    if settings.url == DEFAULT_URL and settings.origin == "the default":
        with tempfile.TemporaryDirectory(prefix="sofa-registry-demo-") as folder:
            file = quote(str(Path(folder) / "registry.db"))
            yield _prepare(f"{DEFAULT_URL}{file}", {}, lease, shown=DEFAULT_URL)
    else:
        yield _prepare(settings.url, settings.options, lease)


def _prepare(url: str, options: Mapping[str, Value], lease: float | None, shown: str = "") -> Scene:
    registry = Registry(url, options=options)
    target, can = registry.target, registry.capabilities
    if not can.shared:
        raise InvalidArgument(
            f"{target.scheme}:// lives inside one process, and the demo needs several: "
            "leave --url out to see it on local://, or name a server"
        )
    backend = Plugins().backend(target.scheme)
    namespace = f"demo-{secrets.token_hex(3)}"
    full = _with_options(url, options, backend, namespace, lease)
    leases = [Registry(full).target.number(name) for name in _LEASES if name in table_of(backend)]
    waited = 0.0 if can.notices_death_at_once else max(leases, default=10.0)
    bound = waited + can.notices_death_within + HOLD + MARGIN
    return Scene(full, shown or str(target), namespace, bound, can.notices_death_at_once)


def _with_options(
    url: str, options: Mapping[str, Value], backend: BackendType, namespace: str, lease: float | None
) -> str:
    head, _, query = url.partition("?")
    table = table_of(backend)
    given: dict[str, Value] = {**options, **dict(parse_qsl(query, keep_blank_values=True))}
    for name in _LEASES:
        if name in table and (lease is not None or name not in given):
            given[name] = lease if lease is not None else max(LEASE, table[name].least or 0.0)
    # Nothing of the demo's may stay on the disk, meet somebody else's services, or be refused for being local.
    given |= {"namespace": namespace, "snapshot": "off", "allow_loopback": True, "protection_hold": HOLD}
    return f"{head}?{urlencode({name: _text(value) for name, value in given.items()})}"


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
