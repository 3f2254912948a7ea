"""What a mutant is, the table of all, and the suites whose tests find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

REGISTRY = "tests/contract/test_registry_memory.py::TestMemoryRegistry::"
REDIS = "tests/contract/test_registry_redis.py::TestRedisRegistry::"
STORE = "tests/contract/test_store_memory.py::TestMemoryStore::"
CONFIG = "tests/contract/test_config_memory.py::TestMemoryConfig::"
CONFIG_REDIS = "tests/contract/test_config_redis.py::TestRedisConfig::"


class Mutant(NamedTuple):
    """A defect, who has or had it, the tests that must fail on it, and what plants it."""

    name: str
    defect: str
    seen_in: str
    tests: tuple[str, ...]
    plant: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}


def mutant(defect: str, seen_in: str, *tests: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enter a mutant under the name of its function."""

    def enter(plant: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[plant.__name__] = Mutant(plant.__name__.replace("_", " "), defect, seen_in, tests, plant)
        return plant

    return enter
