"""Which address of this machine to publish."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from sofa_registry_adapters.errors import UnroutableAddress
from sofa_registry_adapters.model.instance import Instance, check_host
from sofa_registry_adapters.spi.options import Target

VARIABLE = "SOFA_REGISTRY_ADVERTISE"


class Advertised(msgspec.Struct, frozen=True):
    """An address of this machine, and why this one. ``str()`` is the host alone."""

    host: str
    why: str

    def __str__(self) -> str:
        return self.host


def advertise_address(target: Target) -> Advertised:
    """The address from which this machine reaches the registry; consumers can most likely reach it, too.

    The variable ``SOFA_REGISTRY_ADVERTISE`` wins (containers, NAT). Nothing is sent. Raises
    `UnroutableAddress` if no route is found.
    """
    if host := os.environ.get(VARIABLE):
        return Advertised(check_host(host), f"the variable {VARIABLE} says so")
    if not target.addresses:
        return Advertised("127.0.0.1", "the registry is on this machine only")
    errors = []
    for address in target.addresses:
        try:
            host = _source_towards(address.host, address.port or 9)
        except OSError as error:
            errors.append(f"{address.host}: {error}")
        else:
            return Advertised(host, f"it is the source address of the route to {address.host}")
    raise UnroutableAddress(
        f"no address of this machine routes to the registry ({'; '.join(errors)}): "
        f"give the host yourself, or set {VARIABLE}"
    )


def _source_towards(host: str, port: int) -> str:
    import socket

    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0]).partition("%")[0]


def check_routable(instances: Iterable[Instance], target: Target) -> None:
    """Refuse an address that only this machine understands, for a registry that others read."""
    if target.flag("allow_loopback") or not target.addresses or all(_is_here(one.host) for one in target.addresses):
        return
    for instance in instances:
        if _is_here(instance.host):
            raise UnroutableAddress(
                f"{instance.host} means 'this machine' to everybody who reads it, and the registry "
                f"{target.addresses[0].host} is elsewhere: publish an address that others can reach "
                "(advertise_address() finds one), or set the option allow_loopback=true"
            )


def _is_here(host: str) -> bool:
    if host.lower().rstrip(".") in ("localhost", "localhost.localdomain", "ip6-localhost"):
        return True
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
