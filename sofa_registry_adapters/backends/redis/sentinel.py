"""Redis with Sentinels: a master that is written to, replicas that follow it, and Sentinels that promote one when it dies.

::

    redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/database][?option=value&…]
    rediss+sentinel://…     the same over TLS, Sentinels included

The hosts are the Sentinels, ``name`` is what they call the master, user and password are those of the master.
Whoever connects asks all Sentinels at once and believes the newest configuration, and then the server, which has to
say itself that it is a master. Nothing is ever read from a replica. A master that took over begins an epoch of its
own, for it may lack what its predecessor confirmed last.
"""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.backends.redis import (
    CAPABILITIES,
    OPTIONS,
    check_shared,
    database_number,
)
from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import BackendType, Option, Target

__all__ = ["BACKEND", "database", "master_name"]

_EXAMPLE = "redis+sentinel://host,host,host/NAME-OF-THE-MASTER"


def master_name(target: Target) -> str:
    """What the Sentinels call the master. Raises `InvalidURL`."""
    name = target.path.removeprefix("/").partition("/")[0]
    if not name or not name.isprintable() or " " in name:
        raise InvalidURL(f"{target} does not say what the Sentinels call the master: write {_EXAMPLE}")
    return name


def database(target: Target) -> int:
    """The number of the database behind the master's name. Raises `InvalidURL`."""
    return database_number(target, target.path.removeprefix("/").partition("/")[2], f"{_EXAMPLE}/0")


def _check(target: Target) -> None:
    master_name(target)
    database(target)
    check_shared(target)
    if target.text("sentinel_username") and not target.text("sentinel_password_file"):
        raise InvalidURL("the option sentinel_username needs sentinel_password_file, the file with its password")


def _load() -> Callable[..., object]:
    from sofa_registry_adapters.backends.redis.store import SentinelStore

    return SentinelStore


BACKEND = BackendType(
    schemes=("redis+sentinel", "rediss+sentinel"),
    summary="Redis 5 or newer, or Valkey: a master with replicas, and Sentinels that replace it when it dies",
    grammar="redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/database][?option=value&…]",
    considerations=(
        "The hosts are the Sentinels, port 26379 where none is named, and name is what they call the master. Replication is "
        "asynchronous: a replica that takes over may lack the last writes that its predecessor confirmed. Publishers "
        "notice and write theirs again; configuration values written in that moment are lost. What else is said "
        "of redis:// holds as well; a user of the server needs +info beside what is listed there. With TLS the name or address "
        "by which the Sentinels name a server has to be in its certificate: set resolve-hostnames and "
        "announce-hostnames of the Sentinels where certificates have names only. How to deploy it: "
        "docs/how-to/redis-sentinel-and-cluster.md."
    ),
    capabilities=CAPABILITIES,
    load=_load,
    options=(
        *OPTIONS,
        Option(name="sentinel_username", kind="text", default="", meaning="user of the Sentinels, if they have users"),
        Option(
            name="sentinel_password_file",
            kind="path",
            default="",
            meaning="file with the password of the Sentinels, read at each connect; empty: they ask for none",
        ),
    ),
    extra="redis",
    libraries=("redis",),
    default_port=26379,
    tls=("rediss+sentinel",),
    check=_check,
)
