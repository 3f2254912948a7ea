"""A dictionary under a lock, and functions that are called: what a registry inside one process is at least."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from measuring.places import Place
from measuring.raw.client import RawClient
from sofa_registry_adapters.spi.store import Record


class Raw(RawClient):
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._records: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._told: list[Callable[[], object]] = []

    def publish(self, one: Record) -> None:
        with self._lock:
            self._records[one.name] = one.value
        for told in self._told:
            told()

    def watch(self, service: str, told: Callable[[], object]) -> None:
        self._told.append(told)

    def snapshot(self, service: str) -> Sequence[bytes]:
        with self._lock:
            return list(self._records.values())

    def write_all(self, records: Sequence[Record]) -> None:
        for one in records:
            self.publish(one)

    def clear(self) -> None:
        self._records.clear()

    def close(self) -> None:
        self._told.clear()
