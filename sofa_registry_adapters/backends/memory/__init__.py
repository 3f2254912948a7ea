"""Services inside one process: for tests, for trying things out, and for programs that are one process.

``memory://name`` is a `Space` that every Registry of this process with the same name and namespace
shares. `space` finds it, so that a test can break it.
"""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.backends.memory.spaces import CAPABILITIES, Space, space
from sofa_registry_adapters.spi.options import BackendType, Option

__all__ = ["BACKEND", "Space", "space"]


def _load() -> Callable[..., object]:
    from sofa_registry_adapters.backends.memory.store import MemoryStore

    return MemoryStore


BACKEND = BackendType(
    schemes=("memory",),
    summary="an in-process registry, for tests and single programs",
    grammar="memory://[name]",
    considerations=(
        "Nothing is shared with other processes and nothing outlives this one. "
        "Registries with the same name and namespace see each other."
    ),
    capabilities=CAPABILITIES,
    load=_load,
    options=(
        Option(
            name="lease",
            kind="seconds",
            default=10.0,
            least=0.05,
            most=3600,
            meaning="how long records outlive the last sign of life of their owner",
        ),
    ),
    defaults={"protection_hold": 0.0, "snapshot": "off"},
    needs_host=False,
    bare_path=True,
)
