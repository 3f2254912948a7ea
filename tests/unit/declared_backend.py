"""A backend that is only declared, and what a URL of it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target, Value


def load() -> Callable[..., object]:
    raise NotImplementedError


def remote(**fields: Any) -> BackendType:
    given = {
        "schemes": ("toy", "toys"),
        "summary": "a toy",
        "grammar": "toy://host[:port][,host[:port]…]",
        "considerations": "none",
        "capabilities": Capabilities(),
        "load": load,
        "default_port": 1234,
        "options": (
            Option(name="size", kind="bytes", default=10, meaning="", least=1, most=1000_000),
            Option(name="count", kind="whole", default=1, meaning="", least=0, most=9),
            Option(name="mode", kind="text", default="fast", meaning="", choices=("fast", "slow")),
            Option(name="token", kind="secret", default="", meaning=""),
        ),
    }
    return BackendType(**(given | fields))  # type: ignore[arg-type]


REMOTE = remote()


def target(url: str, backend: BackendType = REMOTE, **options: Value) -> Target:
    return parse_target(url, backend, options)


class Toys:
    @hookimpl
    def sofa_registry_backends(self) -> list[BackendType]:
        return [REMOTE]
