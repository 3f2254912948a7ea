"""The events that ``registry.events.on(…)`` delivers, by their names."""

from sofa_registry_adapters.model.events import (
    BackendLost,
    BackendRestored,
    Event,
    InstancesChanged,
    ListenerFailed,
    ProtectionEnded,
    ProtectionStarted,
    Published,
    RecordRejected,
    RegistrationConflict,
    RegistrationLost,
    RegistrationRefused,
    SnapshotFailed,
    Withdrawn,
)

__all__ = [
    "BackendLost",
    "BackendRestored",
    "Event",
    "InstancesChanged",
    "ListenerFailed",
    "ProtectionEnded",
    "ProtectionStarted",
    "Published",
    "RecordRejected",
    "RegistrationConflict",
    "RegistrationLost",
    "RegistrationRefused",
    "SnapshotFailed",
    "Withdrawn",
]
