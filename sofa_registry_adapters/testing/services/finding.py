"""Where a server comes from."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from sofa_registry_adapters.testing.services.container import (
    SWITCH,
    ContainerService,
    container_obstacle,
    switch,
)
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.product import Product
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.service import Service, ServiceError, ServiceUnavailable


def find_service(product: str | Product, *, own: bool = False, persistent: bool = False) -> Service:
    """A running server of the product, to be closed by the caller.

    The product is named, or is one that was made with options of its own, such as `nacos.product`.

    The environment comes first (`SOFA_TEST_REDIS_URL` and the like), then a container, then a program on
    this machine; with SOFA_TEST_CONTAINERS=required a container and nothing else. `own` leaves the environment out: the server may then be killed, frozen and wiped.
    `persistent` asks for data that survives a restart where that is a choice (Redis), on a server of our own.

    Raises:
        ServiceUnavailable: there is none; the text says why and how to get one.
        ServiceError: the one named by the environment does not answer, or one that should start does not.
    """
    if isinstance(product, str):
        product = _named(product)
    required = switch() == "required"
    url = os.environ.get(product.variable, "")
    if url and not own and not required:
        return _from_environment(product, url)
    obstacle = container_obstacle(product)
    if not obstacle:
        return ContainerService(product, persistent=persistent)
    if required:
        raise ServiceUnavailable(product.name, f"{obstacle}, and {SWITCH} is required", product.remedy)
    local = product.local()
    if not isinstance(local, str):
        return LocalService(product, local, persistent=persistent)
    first = "a server of our own is needed" if own else f"{product.variable} is not set"
    raise ServiceUnavailable(product.name, f"{first}, {obstacle}, {local}", product.remedy)


def _named(name: str) -> Product:
    if name not in PRODUCTS:
        message = f"no product is called {name!r}; there are {', '.join(PRODUCTS)}"
        raise ServiceError(message)
    return PRODUCTS[name]


def _from_environment(product: Product, url: str) -> Service:
    host, port = _first_host(product, url)
    service = Service(product, host, port, origin=f"environment ({product.variable})", url=url)
    trouble = service.check_alive()
    if trouble:
        message = (
            f"{product.variable} names a {product.name} server at {host}:{port}, but {trouble}. "
            f"Start it, correct the variable, or unset it to let a server be started here"
        )
        raise ServiceError(message)
    return service


def _first_host(product: Product, url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        first = urlsplit("//" + parts.netloc.rpartition("@")[2].split(",")[0])
        host, port = first.hostname, first.port or product.port
    except ValueError:
        host, port = None, 0
        parts = urlsplit("")
    if parts.scheme != product.scheme or not host:
        # The URL itself is not shown: it may hold a password.
        message = f"{product.variable} has to look like {product.scheme}://HOST:{product.port}"
        raise ServiceError(message)
    return host, port
