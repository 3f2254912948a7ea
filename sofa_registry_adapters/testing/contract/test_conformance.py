"""The contracts as they are, on any registry: `pytest --pyargs sofa_registry_adapters.testing.contract --registry-url=URL`.

The store's contract runs where the backend is a store. What only a server can do to itself, or a network, is not
applicable here: derive from `RegistryContract` and offer it as the fixture `faults`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import cast

import pytest

from sofa_registry_adapters.engine.plugins import factory
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.spi.store import RecordStore
from sofa_registry_adapters.testing.conformance import Subject, subject_of
from sofa_registry_adapters.testing.contract import ConfigContract, Faults, Registries, RegistryContract, StoreFaults
from sofa_registry_adapters.testing.store_contract import StoreContract, StoreFactory


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> Subject:
    """What is tested."""
    return subject_of(pytestconfig)


class TestRegistry(RegistryContract):
    """The contract of a registry."""

    @pytest.fixture
    def registry_url(self, subject: Subject) -> str:
        return subject.url

    @pytest.fixture
    def faults(self, subject: Subject, namespace: str) -> Iterator[Faults | None]:
        if not subject.backend.store:
            yield None
            return
        faults = StoreFaults(subject.url, {"namespace": namespace})
        yield faults
        faults.close()

    @pytest.fixture
    def registries(self, subject: Subject, namespace: str) -> Iterator[Registries]:
        lease = subject.lease(self.lease_seconds)
        made = Registries(subject.url, {"namespace": namespace}, subject.lease_option, lease)
        yield made
        made.close()


class TestConfig(ConfigContract):
    """The contract of a config center."""

    @pytest.fixture
    def registry_url(self, subject: Subject) -> str:
        return subject.url


class TestStore(StoreContract):
    """The contract of a store."""

    @pytest.fixture
    def store_factory(self, subject: Subject) -> StoreFactory:
        options: Mapping[str, Value] = {"namespace": f"test-{uuid.uuid4().hex}"}
        if subject.lease_option:
            options = {**options, subject.lease_option: subject.lease(3.0)}
        target = subject.target(options)
        make = factory(subject.backend)
        return lambda: cast("RecordStore", make(target, SystemClock()))  # type: ignore[operator]
