"""Which product has which operator."""

from __future__ import annotations

from collections.abc import Mapping

from sofa_registry_adapters.testing.faults.operators.etcd import EtcdOperator
from sofa_registry_adapters.testing.faults.operators.operator import Operator
from sofa_registry_adapters.testing.faults.operators.redis import RedisOperator
from sofa_registry_adapters.testing.faults.operators.zookeeper import ZooKeeperOperator

_OPERATORS: Mapping[str, type[Operator]] = {
    "etcd": EtcdOperator,
    "redis": RedisOperator,
    "zookeeper": ZooKeeperOperator,
}


def operator_of(scheme: str, host: str, port: int) -> Operator:
    """The operator of the server of a product, named by the scheme of its URLs; one who can do nothing where there is none."""
    return _OPERATORS.get(scheme, Operator)(host, port)
