"""What the servers say about themselves: their version on a connection of its own, their clock on a node."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.backends.zookeeper.access import Access
from sofa_registry_adapters.backends.zookeeper.session import Session
from sofa_registry_adapters.errors import Refused, Unsupported
from sofa_registry_adapters.spi.diagnosis import Diagnosis, is_older
from sofa_registry_adapters.spi.options import Address, Target

NEEDED = (3, 6)
WITHIN = 1.0
"""Seconds for the version, which a server may refuse to tell."""
_GREETING = "Zookeeper version: "


async def diagnose(session: Session, target: Target, access: Access, probe: str) -> Diagnosis:
    """The oldest version among the servers of the URL, and when the node ``probe`` was written."""
    told = [version for address in target.addresses if (version := await server_version(address, access.context()))]
    version = min(told, key=_numbers, default="")
    needs = "ZooKeeper 3.6" if is_older(version, NEEDED) else ""
    clock: int | None = None
    with contextlib.suppress(Refused):
        try:
            clock = await _written(session, probe)
        except Unsupported:
            needs = "ZooKeeper 3.6"
    return Diagnosis(server=f"ZooKeeper {version}".strip(), needs=needs, clock=clock)


async def _written(session: Session, path: str) -> int | None:
    answer = await session.call(wire.BulkRead([wire.get_data(path)]))
    stat = answer.replies[0].stat
    return None if stat is None else stat.mtime


async def server_version(address: Address, tls: ssl.SSLContext | None = None) -> str:
    """The answer to ``srvr``, the one question that servers answer unless it is switched off; empty without one."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(WITHIN):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
            try:
                writer.write(b"srvr")
                first = (await reader.readline()).decode("utf-8", "replace")
            finally:
                writer.transport.abort()
        if first.startswith(_GREETING):
            return first.removeprefix(_GREETING).partition("-")[0].partition(",")[0].strip()
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
