"""Which servers a run of tests asked for, and which of them there were."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

from sofa_registry_adapters.testing.services import (
    Product,
    Service,
    ServiceError,
    ServiceUnavailable,
    find_service,
)

T = TypeVar("T", bound=Service)


class Attendance:
    """Which servers this run asked for, where they came from, and which of them have to be there."""

    def __init__(self, required: frozenset[str]) -> None:
        self.required = required
        self.found: dict[str, str] = {}
        self.missing: dict[str, ServiceUnavailable] = {}
        self.lacking: dict[str, str] = {}

    def find(self, product: Product, *, own: bool = False, persistent: bool = False) -> Service:
        """The server, or the end of the test: skipped, or failed where it is required."""
        name = product.name
        if name in self.missing:
            self._absent(self.missing[name])
        return self._attended(name, lambda: find_service(product, own=own, persistent=persistent), own=own)

    def build(self, name: str, made: Callable[[], T]) -> T:
        """Several servers of our own that are one registry, or the end of the test."""
        return self._attended(name, made, own=True)

    def _attended(self, name: str, made: Callable[[], T], *, own: bool) -> T:
        try:
            service = made()
        except ServiceUnavailable as error:
            if not own:
                self.missing[name] = error
            self.found.setdefault(name, f"none: {error.reason}. To get one: {error.remedy}")
            self._absent(error)
        except ServiceError as error:
            self.found[name] = f"failed: {error}"
            pytest.fail(str(error), pytrace=False)
        else:
            return self._present(service)

    def _present(self, service: T) -> T:
        self.found[service.name] = f"{service.origin}, {service.host}:{service.port}"
        return service

    def _absent(self, error: ServiceUnavailable) -> NoReturn:
        if error.name in self.required:
            pytest.fail(f"{error} (required by --require-services)", pytrace=False)
        pytest.skip(str(error))

    def told(self) -> dict[str, dict[str, str]]:
        """What a worker of a run on several processes tells the one that started it."""
        return {"found": self.found, "missing": {name: str(error) for name, error in self.missing.items()}}

    def learn(self, told: dict[str, dict[str, str]]) -> None:
        """Take in what a worker has told."""
        self.found.update(told["found"])
        self.lacking.update(told["missing"])


ATTENDANCE = pytest.StashKey[Attendance]()
