"""The sites of rows that need another one than a single server that lets everybody in: by the place that a row names, and the backend."""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.testing.faults.site import Site

PLACES: dict[tuple[str, str], Callable[[], Site]] = {}
"""What opens them. Raises `ServiceUnavailable` where a program is missing. A backend without an entry is among the row's ``absent``."""


def place(name: str, backend: str) -> Callable[[Callable[[], Site]], Callable[[], Site]]:
    """Enter the function as what opens a place for a backend."""

    def enter(opens: Callable[[], Site]) -> Callable[[], Site]:
        assert (name, backend) not in PLACES, (name, backend)
        PLACES[name, backend] = opens
        return opens

    return enter
