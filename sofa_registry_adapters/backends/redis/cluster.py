"""Redis Cluster: buckets are spread over masters by the hash of their names, each master with replicas of its own.

::

    redis+cluster://[user:password@]host[:port][,host[:port]…][/prefix][?option=value&…]
    rediss+cluster://…      the same over TLS

The hosts are some of the nodes; who has what is asked of them. All keys of a bucket have one hash tag, so a script
finds them on one master. Messages go by plain publish and subscribe, which a cluster carries to all of its nodes: one
connection to any of them hears of every bucket.
"""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.backends.redis import CAPABILITIES, OPTIONS, check_prefix, check_shared
from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import BackendType, Target

__all__ = ["BACKEND", "prefix"]


def prefix(target: Target) -> str:
    """What the names of all keys begin with: the path, or the option. Raises `InvalidURL`."""
    path, option = target.path.strip("/"), target.text("prefix")
    default = next(str(one.default) for one in OPTIONS if one.name == "prefix")
    if path and option not in (path, default):
        raise InvalidURL(f"{target} has a prefix in its path, and the option prefix is {option!r}: keep one")
    return path or option


def _check(target: Target) -> None:
    check_prefix(prefix(target))
    check_shared(target)


def _load() -> Callable[..., object]:
    from sofa_registry_adapters.backends.redis.store import ClusterStore

    return ClusterStore


BACKEND = BackendType(
    schemes=("redis+cluster", "rediss+cluster"),
    summary="Redis Cluster 5 or newer, or Valkey's: services are spread over several masters",
    grammar="redis+cluster://[user:password@]host[:port][,host[:port]…][/prefix][?option=value&…]",
    considerations=(
        "The hosts are some of the nodes; two or three are enough. Replication is asynchronous: a replica that takes over may lack "
        "the last writes that its predecessor confirmed. Publishers notice and write theirs again; configuration values "
        "written in that moment are lost. While a master is gone its services cannot be written or read anew, and with "
        "cluster-require-full-coverage yes, which is the server's default, none at all. Every change is told to every node. What "
        "else is said of redis:// holds as well; a user of the server needs +info and +cluster beside what is listed there. "
        "How to deploy it: docs/how-to/redis-sentinel-and-cluster.md."
    ),
    capabilities=CAPABILITIES,
    load=_load,
    options=OPTIONS,
    extra="redis",
    libraries=("redis",),
    default_port=6379,
    tls=("rediss+cluster",),
    check=_check,
)
