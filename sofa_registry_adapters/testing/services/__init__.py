"""Real servers for tests: named by the environment, in a container, or from a program on this machine.

`find_service("redis")` looks in that order and gives a `Service`, or raises `ServiceUnavailable`, which says
what was tried and how to get one. A program started here listens on loopback, keeps its data in a temporary
directory, and ends with this process, however that ends; a container ends when this process exits.
"""

from sofa_registry_adapters.testing.services.finding import find_service
from sofa_registry_adapters.testing.services.product import Product
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.service import (
    ABILITIES,
    Service,
    ServiceError,
    ServiceUnavailable,
)

__all__ = [
    "ABILITIES",
    "PRODUCTS",
    "Product",
    "Service",
    "ServiceError",
    "ServiceUnavailable",
    "find_service",
]
