"""Does anything answer where instances point to? Addresses of metadata services are never connected to."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Literal

from sofa_registry_adapters.cli.doctor.network import part, resolve

WITHIN = 1.0
"""Seconds for a name, and again for a connection."""
AT_ONCE = 64
TRIED = 4
"""IP addresses of one name at most."""

Outcome = Literal["open", "refused", "no answer", "no address", "not tried"]
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Place = tuple[str, int]

_METADATA = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"))
)
"""Where clouds answer machines about their secrets, beside the link-local addresses."""
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


def is_forbidden(text: str) -> bool:
    """Whether doctor never connects to this IP address: link-local, metadata, multicast, none at all.

    An IPv4 address inside an IPv6 one counts as itself.
    """
    ip = _inner(ipaddress.ip_address(text.partition("%")[0]))
    if ip.is_loopback:
        return False
    return ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved


def _inner(ip: Ip) -> Ip:
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _TRANSLATED:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def is_loopback(text: str) -> bool:
    """Whether this IP address is this machine to whoever asks."""
    return _inner(ipaddress.ip_address(text.partition("%")[0])).is_loopback


async def reach(places: Iterable[Place], *, here: bool) -> dict[Place, Outcome]:
    """What became of one connection to each host and port, a second and `AT_ONCE` at a time at most.

    Without ``here`` loopback addresses are not tried: they are other machines.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(place: Place) -> tuple[Place, Outcome]:
        async with turn:
            return place, await _reach_one(place, here=here)

    return dict(await asyncio.gather(*(one(place) for place in dict.fromkeys(places))))


async def _reach_one(place: Place, *, here: bool) -> Outcome:
    host, port = place
    try:
        found = await resolve(host, WITHIN)
    except (OSError, TimeoutError, UnicodeError):
        return "no address"
    ips = [ip for ip in found if not is_forbidden(ip) and (here or not is_loopback(ip))][:TRIED]
    outcomes = {await _connect(ip, port) for ip in ips}
    if "open" in outcomes:
        return "open"
    if len(ips) < len(found):
        return "not tried"
    return "no answer" if "no answer" in outcomes else "refused"


async def _connect(ip: str, port: int) -> Outcome:
    try:
        async with asyncio.timeout(WITHIN):
            _, writer = await asyncio.open_connection(ip, port)
    except ConnectionRefusedError:
        return "refused"
    except (OSError, TimeoutError):
        return "no answer"
    await part(writer)
    return "open"
