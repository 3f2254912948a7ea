"""One API for service registries: publish, subscribe, and stay registered whatever the registry does."""

from sofa_registry_adapters.advertise import Advertised
from sofa_registry_adapters.handles import (
    AsyncRegistration,
    AsyncSubscription,
    AsyncWatch,
    Registration,
    Subscription,
    Watch,
)
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, Revision, ServiceView
from sofa_registry_adapters.registry import AsyncRegistry, Registry

__version__ = "0.1.0"

__all__ = [
    "Advertised",
    "AsyncRegistration",
    "AsyncRegistry",
    "AsyncSubscription",
    "AsyncWatch",
    "Instance",
    "InstancesChange",
    "Registration",
    "Registry",
    "Revision",
    "ServiceKey",
    "ServiceView",
    "Subscription",
    "Watch",
    "__version__",
]
