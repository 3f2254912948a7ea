"""One API for service registries and config centers: publish, subscribe, configure, and stay in step whatever the server does."""

from sofa_registry_adapters.advertise import Advertised
from sofa_registry_adapters.bound import AsyncBound, Bound
from sofa_registry_adapters.config import AsyncConfigCenter, ConfigCenter
from sofa_registry_adapters.handles import (
    AsyncConfigSubscription,
    AsyncConfigWatch,
    AsyncFieldSubscription,
    AsyncRegistration,
    AsyncSubscription,
    AsyncWatch,
    ConfigSubscription,
    ConfigWatch,
    FieldSubscription,
    Registration,
    Subscription,
    Watch,
)
from sofa_registry_adapters.model.config import ABSENT, Absent, ConfigChange, ConfigItem, ConfigKey
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, Revision, ServiceView
from sofa_registry_adapters.registry import AsyncRegistry, Registry

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "Absent",
    "Advertised",
    "AsyncBound",
    "AsyncConfigCenter",
    "AsyncConfigSubscription",
    "AsyncConfigWatch",
    "AsyncFieldSubscription",
    "AsyncRegistration",
    "AsyncRegistry",
    "AsyncSubscription",
    "AsyncWatch",
    "Bound",
    "ConfigCenter",
    "ConfigChange",
    "ConfigItem",
    "ConfigKey",
    "ConfigSubscription",
    "ConfigWatch",
    "FieldSubscription",
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
