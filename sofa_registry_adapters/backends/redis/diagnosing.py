"""What the server says about itself, and which owners have no lease by its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sofa_registry_adapters.backends.redis.keys import Path, encode
from sofa_registry_adapters.backends.redis.scripting import Command
from sofa_registry_adapters.backends.redis.session import Session
from sofa_registry_adapters.backends.redis.wire import owner_of
from sofa_registry_adapters.errors import Refused
from sofa_registry_adapters.spi.diagnosis import Diagnosis, is_older
from sofa_registry_adapters.spi.store import RecordKey

NEEDED = (5,)
"""Logs of changes are streams."""


async def diagnose(session: Session) -> Diagnosis:
    """A user without the right to ask INFO or TIME learns less."""
    clock = await _time(session)
    try:
        told = _fields(await session.commands.one(("INFO",)))
    except Refused:
        return Diagnosis(clock=clock)
    version = told.get("redis_version", "")
    product = told.get("server_name", "redis").capitalize()
    return Diagnosis(
        server=f"{product} {told.get(f'{product.lower()}_version', version)}",
        needs="Redis 5" if is_older(version, NEEDED) else "",
        clock=clock,
        remarks=_remarks(told),
    )


async def _time(session: Session, key: bytes = b"") -> int | None:
    """The clock of the server, or of the one of several that has the key, in milliseconds."""
    ask: Command = ("EVAL", "return redis.call('TIME')", 1, key) if key else ("TIME",)
    try:
        seconds, microseconds = await session.commands.one(ask)
    except Refused:
        return None
    return int(seconds) * 1000 + int(microseconds) // 1000


def _fields(info: bytes) -> Mapping[str, str]:
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _remarks(told: Mapping[str, str]) -> Sequence[str]:
    policy = told.get("maxmemory_policy", "noeviction")
    if policy == "noeviction" or told.get("maxmemory", "0") == "0":
        return ()
    return (f"its maxmemory-policy is {policy}, which may evict registrations: set it to noeviction",)


async def dead(session: Session, keys: Sequence[RecordKey]) -> Sequence[RecordKey]:
    """Owned records whose owner has no lease that runs, by the server's clock."""
    by_bucket: dict[Path, list[RecordKey]] = {}
    for key in keys:
        by_bucket.setdefault(key.bucket, []).append(key)
    found: list[RecordKey] = []
    for path, some in by_bucket.items():
        found += await _dead_in(session, path, some)
    return found


async def _dead_in(session: Session, path: Path, keys: Sequence[RecordKey]) -> Sequence[RecordKey]:
    records, leases, *_ = session.keyspace.keys(path)
    one = session.commands.one
    raws = await one(("HMGET", records, *(encode(key.name) for key in keys)))
    owners = {key: owner_of(raw) for key, raw in zip(keys, raws, strict=True) if raw is not None}
    now = await _time(session, records)
    if now is None:
        return ()
    running = {
        owner: till is not None and float(till) > now
        for owner in set(owners.values()) - {None}
        if owner is not None
        for till in (await one(("ZSCORE", leases, owner)),)
    }
    return [key for key, owner in owners.items() if owner is not None and not running[owner]]
