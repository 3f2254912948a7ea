"""Defects of what is declared."""

from __future__ import annotations

import msgspec

from planted.table import REGISTRY, STORE, mutant
from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.backends.memory.store import MemoryStore


@mutant(
    "A capability is declared absent, and works",
    "tooz: drivers that raise NotImplemented where they need not",
    f"{STORE}test_what_is_declared_absent_is_absent",
    f"{REGISTRY}test_80_as_declared[push]",
)
def a_capability_that_is_denied() -> None:
    less = msgspec.structs.replace(memory.CAPABILITIES, push=False)
    MemoryStore.capabilities = less
    memory.BACKEND = msgspec.structs.replace(memory.BACKEND, capabilities=less)


@mutant(
    "A capability is declared, and does not work",
    "tooz: skip on NotImplemented makes a broken driver green",
    f"{STORE}test_listing",
    f"{REGISTRY}test_10_services[blocking]",
    f"{REGISTRY}test_80_as_declared[list_services]",
)
def a_capability_that_is_missing() -> None:
    Space.buckets = lambda *_: []
