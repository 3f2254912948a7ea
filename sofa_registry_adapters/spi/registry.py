"""Meaning-level SPI: instances of services.

Stores get it from the engine; a product with a service model of its own implements it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import msgspec

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.options import Capabilities


class Wanted(msgspec.Struct, frozen=True):
    """Everything that one owner wants to be published, by service.

    Instances with the state ``leaving`` are on their way out: still there, marked.
    """

    instances: Mapping[ServiceKey, tuple[Instance, ...]]

    def only(self, services: Collection[ServiceKey]) -> Wanted:
        """The part about ``services``."""
        return Wanted({key: self.instances[key] for key in services if key in self.instances})


class Rejected(msgspec.Struct, frozen=True):
    """A record that could not be decoded: its name in the product, and why."""

    record: str
    reason: str


class Snapshot(msgspec.Struct, frozen=True):
    """All instances of a service at one revision."""

    revision: Revision
    instances: Sequence[Instance] = ()
    rejected: Sequence[Rejected] = ()


class Patch(msgspec.Struct, frozen=True):
    """What changed since the message before: instances that are new or other, and ids that are gone."""

    revision: Revision
    changed: Sequence[Instance] = ()
    removed: Sequence[str] = ()
    rejected: Sequence[Rejected] = ()


class RegistryBackend(ABC):
    """What the engine drives. It never retries, caches, runs a timer or calls a listener."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the product can do."""

    @property
    def lease(self) -> float:
        """Seconds without `renew` after which what was announced may vanish; 0 means never."""
        return 0.0

    @abstractmethod
    async def open(self) -> None:
        """Connect. May be called again after it raised, and after `close`."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; what was announced vanishes at once where the product can. Never raises."""

    @abstractmethod
    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        """Bring ``changed`` in line with ``wanted``; idempotent; the answer has what was refused.

        One verb is publish, update, withdraw, batch and recovery. It raises only when nothing can be
        said; the outcome is then unknown and the call is made again.
        """

    @abstractmethod
    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        """Stay alive; the answer has the services whose records are missing or no longer ours.

        With each the ids of the instances concerned; none: it may be any of them.

        Called every third of the lease and often enough for ``detects_loss_within``, even with
        nothing published. Raises when the connection, or that of a watch, is gone.
        """

    async def lost(self) -> None:
        """Return when `renew` has certainly something to find: it is then called at once. By default never."""
        import asyncio

        await asyncio.Event().wait()

    @abstractmethod
    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        """The instances; empty for an unknown service; None if certainly still at ``known``."""

    @abstractmethod
    def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        """A snapshot, then each change. Ends only by raising, or when the iterator is closed."""

    @abstractmethod
    async def services(self) -> Sequence[ServiceKey]:
        """The services that have an instance. Raises `Unsupported` where the product cannot say."""
