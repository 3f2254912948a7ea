"""What a registry has to do on any backend: a test, or several, for each numbered promise to users.

A backend's own tests derive from `RegistryContract` and override one fixture::

    class TestMyRegistry(RegistryContract):
        @pytest.fixture
        def registry_url(self):
            return "mine://127.0.0.1:4000"

Each test has a namespace of its own. With the fixture `faults` a backend's tests offer what can be done to the
registry: killing it, freezing it, wiping it. What the product cannot do it says in its `Capabilities`; the tests
go by them, never by a name, and what is declared absent has to be absent. Promises of the API are tested in both
faces. Plain pytest runs it; no plugin is needed, and without a line of code it is run by
``pytest --pyargs sofa_registry_adapters.testing.contract --registry-url=URL``. The numbers: 1 publishing, 13 names, 20 watching, 30 listeners, 40 life and death, 50 outages, 60 starting and
ending without the registry, 70 resources, 80 capabilities. `ConfigContract` is the same for configuration: 10 values, 20 conditions, 30
history, 40 keys, 50 listeners and watches, 60 listeners that misbehave, 70 outages, 80 starting and ending, 90 resources.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import ClassVar, cast

import pytest

# Before their import, so that their bare asserts say what they compared, as those of a test file do.
_MODULES = (
    "centers",
    "clients",
    "config_following",
    "config_history",
    "config_outages",
    "config_values",
    "declaring",
    "kit",
    "living",
    "naming",
    "outages",
    "publishing",
    "resources",
    "starting",
    "watching",
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _MODULES))

from sofa_registry_adapters.engine.plugins import Plugins  # noqa: E402  see above
from sofa_registry_adapters.settings import scheme_of, table_of  # noqa: E402
from sofa_registry_adapters.spi.options import Value  # noqa: E402
from sofa_registry_adapters.testing.contract.breaking import Faults, ServiceFaults, StoreFaults  # noqa: E402
from sofa_registry_adapters.testing.contract.centers import Centers  # noqa: E402
from sofa_registry_adapters.testing.contract.clients import FaceName  # noqa: E402
from sofa_registry_adapters.testing.contract.config_following import (  # noqa: E402
    ConfigListenerContract,
    FollowingContract,
)
from sofa_registry_adapters.testing.contract.config_history import HistoryContract  # noqa: E402
from sofa_registry_adapters.testing.contract.config_outages import (  # noqa: E402
    ConfigOutageContract,
    ConfigResourceContract,
    ConfigStartingContract,
)
from sofa_registry_adapters.testing.contract.config_values import ValueContract  # noqa: E402
from sofa_registry_adapters.testing.contract.declaring import DeclaringContract  # noqa: E402
from sofa_registry_adapters.testing.contract.kit import Registries  # noqa: E402
from sofa_registry_adapters.testing.contract.living import LivingContract  # noqa: E402
from sofa_registry_adapters.testing.contract.naming import NamingContract  # noqa: E402
from sofa_registry_adapters.testing.contract.outages import OutageContract  # noqa: E402
from sofa_registry_adapters.testing.contract.publishing import PublishingContract  # noqa: E402
from sofa_registry_adapters.testing.contract.resources import ResourceContract  # noqa: E402
from sofa_registry_adapters.testing.contract.starting import StartingContract  # noqa: E402
from sofa_registry_adapters.testing.contract.watching import ListenerContract, WatchingContract  # noqa: E402

__all__ = ["Centers", "ConfigContract", "Faults", "Registries", "RegistryContract", "ServiceFaults", "StoreFaults"]


class Contract:
    """What both contracts are bound with: override `registry_url`, and `faults` where more can be broken than records.

    ``registry_options`` are further options of each Registry and ConfigCenter; ``namespace`` is not among them.
    """

    registry_options: ClassVar[Mapping[str, Value]] = {}

    @pytest.fixture
    def registry_url(self) -> str:
        """Where it is, without the options ``namespace`` and, for a registry, `RegistryContract.lease_option`."""
        raise NotImplementedError(f"{type(self).__name__} overrides the fixture registry_url")

    @pytest.fixture
    def faults(self, registry_url: str, namespace: str) -> Iterator[Faults | None]:
        """What can be broken; by default the records of a store. None: nothing."""
        if not Plugins().backend(scheme_of(registry_url)).store:
            yield None
            return
        faults = StoreFaults(registry_url, {**self.registry_options, "namespace": namespace})
        yield faults
        faults.close()

    @pytest.fixture
    def namespace(self) -> str:
        """The namespace of this test."""
        return f"test-{uuid.uuid4().hex}"

    @pytest.fixture(params=("blocking", "async"))
    def face(self, request: pytest.FixtureRequest) -> FaceName:
        """The face that an API promise is tested in: both, one after the other."""
        return cast("FaceName", request.param)


class RegistryContract(
    PublishingContract,
    NamingContract,
    WatchingContract,
    ListenerContract,
    LivingContract,
    OutageContract,
    StartingContract,
    ResourceContract,
    DeclaringContract,
    Contract,
):
    """See `Contract`. ``lease_option`` is the option that sets the lease, ``lease_seconds`` the one that the tests use and outlive.

    ``silent_stay``: why this version of the product keeps the records of a publisher that hangs, if it does.
    """

    silent_stay: ClassVar[str] = ""
    lease_option: ClassVar[str] = "lease"
    lease_seconds: ClassVar[float] = 2.0

    @pytest.fixture
    def registries(self, registry_url: str, namespace: str, faults: Faults | None) -> Iterator[Registries]:
        """The registries of this test. They are closed before the registry is healed."""
        assert self.lease_option in table_of(Plugins().backend(scheme_of(registry_url))) or not self.lease_option
        options = {**self.registry_options, "namespace": namespace}
        made = Registries(registry_url, options, self.lease_option, self.lease_seconds)
        made.silent_stay = self.silent_stay
        yield made
        made.close()


class ConfigContract(
    ValueContract,
    HistoryContract,
    FollowingContract,
    ConfigListenerContract,
    ConfigOutageContract,
    ConfigStartingContract,
    ConfigResourceContract,
    Contract,
):
    """See `Contract`. What a ConfigCenter has to do on any backend; ``registry_url`` is the config center's."""

    @pytest.fixture
    def centers(self, registry_url: str, namespace: str, faults: Faults | None) -> Iterator[Centers]:
        """The config centers of this test. They are closed before the server is healed."""
        made = Centers(registry_url, {**self.registry_options, "namespace": namespace})
        yield made
        made.close()
