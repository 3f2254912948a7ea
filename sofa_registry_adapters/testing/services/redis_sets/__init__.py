"""Several Redis servers that are one registry: a master with replicas and Sentinels, and a cluster. All of them on loopback.

They are started from the program redis-server, never from a container. `sentinel_set` and `cluster_set` raise `ServiceUnavailable`
where there is none.
"""

from sofa_registry_adapters.testing.services.redis_sets.cluster import ClusterSet, cluster_set
from sofa_registry_adapters.testing.services.redis_sets.members import RedisSet
from sofa_registry_adapters.testing.services.redis_sets.sentinel import SentinelSet, sentinel_set

__all__ = ["ClusterSet", "RedisSet", "SentinelSet", "cluster_set", "sentinel_set"]
