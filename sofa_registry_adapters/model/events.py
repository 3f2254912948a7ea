"""What happened, as typed values in the past tense. `Registry.events` and `ConfigCenter.events` deliver them."""

from __future__ import annotations

import msgspec

from sofa_registry_adapters.model.config import ConfigChange, ConfigKey
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange


class Event(msgspec.Struct, frozen=True):
    """The root of all events: a listener on it gets every one."""


class Published(Event, frozen=True):
    """The instances are in the registry: for the first time, or again after a loss."""

    service: ServiceKey
    instance_ids: tuple[str, ...]


class Withdrawn(Event, frozen=True):
    """The instances are gone from the registry because their publisher withdrew them."""

    service: ServiceKey
    instance_ids: tuple[str, ...]


class RegistrationLost(Event, frozen=True):
    """The registry no longer had the record; it is being published again."""

    service: ServiceKey
    instance_ids: tuple[str, ...]
    reason: str


class RegistrationConflict(Event, frozen=True):
    """A newer publisher holds an id of ours; ours comes back when the other leaves."""

    service: ServiceKey
    instance_ids: tuple[str, ...]
    reason: str


class RegistrationRefused(Event, frozen=True):
    """The registry refused a record (permission, size); it is tried again, ever more slowly."""

    service: ServiceKey
    reason: str


class InstancesChanged(Event, frozen=True):
    """A watched service has another view."""

    change: InstancesChange


class ProtectionStarted(Event, frozen=True):
    """Instances vanished in a way that looks like a fault; they are served a while longer."""

    service: ServiceKey
    instance_ids: tuple[str, ...]


class ProtectionEnded(Event, frozen=True):
    """The hold is over: all came back (``confirmed=False``), or a second read confirmed the loss."""

    service: ServiceKey
    confirmed: bool


class BackendLost(Event, frozen=True):
    """The registry, or the config center, cannot be reached; the last known good is served."""

    backend: str
    reason: str


class BackendRestored(Event, frozen=True):
    """The registry, or the config center, answers again."""

    backend: str
    seconds: float


class RecordRejected(Event, frozen=True):
    """A record could not be decoded; its last good value is kept, the rest of the list is untouched."""

    service: ServiceKey
    record: str
    reason: str


class ListenerFailed(Event, frozen=True):
    """A listener raised. Nobody else is affected."""

    listener: str
    reason: str


class SnapshotFailed(Event, frozen=True):
    """The disk snapshot of a service could not be written or read."""

    service: ServiceKey
    reason: str


class ConfigChanged(Event, frozen=True):
    """A followed configuration value was published, published anew, or removed."""

    change: ConfigChange


class ConfigRejected(Event, frozen=True):
    """What the config center says of a key cannot be used; its last good value stays.

    ``field``: the one that is wrong, ``pool.size``, where a bound model tells; the reason begins with it.
    """

    key: ConfigKey
    reason: str
    field: str = ""


class ConfigLooped(Event, frozen=True):
    """A listener publishes the very key that it listens to, again and again, and so keeps calling itself."""

    key: ConfigKey
    publications: int
    seconds: float


class ConfigSnapshotFailed(Event, frozen=True):
    """The last known good value of a key could not be written to disk or read."""

    key: ConfigKey
    reason: str
