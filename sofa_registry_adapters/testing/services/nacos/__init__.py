"""Nacos for tests: servers of both lines, with or without accounts, with the push delay that a test wants.

A server takes 9 seconds to start and half a gigabyte of memory. The first one of a line has its jars fetched, which
takes a minute; `python -m sofa_registry_adapters.testing.services.nacos` does that beforehand. Clients use two ports, of
HTTP and of gRPC, a thousand apart: `Service.proxy` stands before both. The gRPC ports listen on all addresses, since
Nacos has no setting for that.
"""

from sofa_registry_adapters.testing.services.nacos.server import USER, product

__all__ = ["USER", "product"]
