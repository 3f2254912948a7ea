"""Several Redis servers that are one registry, as the rows about them ask for them: by Sentinels, or a cluster."""

from __future__ import annotations

from matrix.cell import Cell
from matrix.places import place
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.redis_sets import (
    ClusterSet,
    RedisSet,
    SentinelSet,
    cluster_set,
    sentinel_set,
)
from sofa_registry_adapters.testing.set_sites import RedisSetSite

SENTINELS, CLUSTER = "Redis with Sentinels", "Redis Cluster"
ELSEWHERE = {
    "local": "a file has no servers",
    "zookeeper": "a ZooKeeper ensemble has rows of its own",
    "etcd": "an etcd cluster has rows of its own",
    "nacos": "not played: the kit starts single servers of Nacos, not a cluster",
}
ALL = ("I1", "I2", "I3", "I4", "I6", "I7")
ELECTED = 30.0


@place(SENTINELS, "redis")
def _sentinels() -> Site:
    return RedisSetSite(sentinel_set())


@place(CLUSTER, "redis")
def _cluster() -> Site:
    return RedisSetSite(cluster_set())


def servers_of(cell: Cell) -> RedisSet:
    assert isinstance(cell.site, RedisSetSite)
    return cell.site.servers


def master_of(servers: RedisSet) -> LocalService:
    """The master, or one of those of a cluster."""
    return servers.writable()[0]


def replaced(servers: RedisSet, master: LocalService) -> bool:
    """Whether somebody else is named where it was."""
    if isinstance(servers, SentinelSet):
        return servers.master is not master
    assert isinstance(servers, ClusterSet)
    named = servers.masters_by(next(one for one in servers.nodes if one is not master))
    return bool(named) and master not in named
