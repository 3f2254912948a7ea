"""What a raw client does: the same exchanges with the server as a careful application would write them, and nothing else."""

from __future__ import annotations

import importlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

from measuring.content import record
from measuring.places import Place


class RawClient(ABC):
    """One connection by the product's own client library, with its defaults."""

    @abstractmethod
    def publish(self, one: Any) -> None:
        """Write one record with a lifetime, acknowledged; `prepared` made it."""

    @abstractmethod
    def watch(self, service: str, told: Callable[[], object]) -> None:
        """Call ``told`` with each change of a service that our store writes."""

    @abstractmethod
    def snapshot(self, service: str) -> Sequence[bytes]:
        """All records of a service that our store wrote, as fast as the client library can."""

    @abstractmethod
    def write_all(self, records: Sequence[Any]) -> None:
        """Write the records with a lifetime, batched, all acknowledged."""

    def prepared(self, number: int) -> Any:
        """What `publish` takes, made beforehand: the time is that of the exchange alone."""
        return record("raw", number)

    def watch_many(self, services: Sequence[str], told: Callable[[], object]) -> None:
        """Read and watch each of the services."""
        for service in services:
            self.snapshot(service)
            self.watch(service, told)

    def keep(self, every: float, ended: threading.Event) -> None:
        """Keep what was written alive until the end; nothing to do where the client library does it."""
        ended.wait()

    def count(self, namespace: str, service: str) -> int:
        """How many records our store has of the service in the namespace."""
        raise NotImplementedError

    @abstractmethod
    def clear(self) -> None:
        """Delete what was written."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def raw_client(place: Place) -> RawClient:
    """The raw client of the place's product."""
    made: RawClient = importlib.import_module(f"measuring.raw.with_{place.backend}").Raw(place)
    return made
