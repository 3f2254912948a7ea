"""What is published in all measurements: instances with two keys of metadata, some two hundred bytes as a record."""

from __future__ import annotations

import functools

import msgspec

from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.store import Record

STARTED = 1_766_197_200_000
OWNER = "8f3a2b19c4d5e6f7"


def address(number: int) -> str:
    """An address of its own for each number."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:12200"


def metadata(number: int) -> dict[str, str]:
    """Two keys, few different values, as applications have them."""
    return {"version": f"1.4.{number % 3}", "commit": "8f3a2b19c4d5e6f7"}


def instance(number: int) -> Instance:
    """A whole instance."""
    made = Instance.of(address(number), protocol="bolt", zone=f"zone-{number % 3}", metadata=metadata(number))
    return msgspec.structs.replace(made, started=STARTED, owner=OWNER)


@functools.lru_cache(maxsize=50_000)
def record(service: str, number: int) -> Record:
    """The instance as the native layout writes it."""
    return NativeLayout().record(ServiceKey.parse(service), instance(number))
