"""Three servers of one product that are one registry, on loopback: ZooKeeper and etcd.

`ensemble("etcd")` starts them and returns when they have a leader. Each is hurt by itself; a ZooKeeper server can also be cut off from
the others while it runs.
"""

from sofa_registry_adapters.testing.services.ensembles.ensemble import Ensemble
from sofa_registry_adapters.testing.services.ensembles.finding import ensemble
from sofa_registry_adapters.testing.services.ensembles.member import Member

__all__ = ["Ensemble", "Member", "ensemble"]
