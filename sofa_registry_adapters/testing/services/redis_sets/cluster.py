"""Three masters with a replica each that share the slots: a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.product import Product
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.redis_sets.members import BUS, RedisSet, ask, member, told, until
from sofa_registry_adapters.testing.services.secured import Papers
from sofa_registry_adapters.testing.services.service import ServiceError

MASTERS = 3
SLOTS = 16_384
DOWN_SECONDS = 1.0
"""How long a node is silent before the others call it failing."""
_NODE = (
    'save ""',
    "appendonly no",
    "rdb-del-sync-files yes",
    "repl-diskless-sync yes",
    "repl-diskless-sync-delay 0",
    "repl-ping-replica-period 1",
    "cluster-enabled yes",
    f"cluster-node-timeout {DOWN_SECONDS * 1000:.0f}",
    "cluster-require-full-coverage no",
)


def cluster_set(*, papers: Papers | None = None) -> ClusterSet:
    """A cluster that is whole, to be closed by the caller.

    With ``papers`` they speak TLS, to each other as well; the ports of `Service` are without.

    Raises:
        ServiceUnavailable: there is no redis-server here.
        ServiceError: it did not become whole.
    """
    made = ClusterSet(papers)
    try:
        made.build()
    except BaseException:
        made.close()
        raise
    return made


class ClusterSet(RedisSet):
    """See `cluster_set`. The verbs that are not for single servers are done to all nodes."""

    def __init__(self, papers: Papers | None = None) -> None:
        redis = PRODUCTS["redis"]
        super().__init__(
            Product(
                name="redis-cluster",
                scheme="redis+cluster" if papers is None else "rediss+cluster",
                port=redis.port,
                package=redis.package,
                image=redis.image,
                probe=redis.probe,
                local=redis.local,
            ),
            papers,
        )

    def build(self) -> None:
        """Start all nodes and make one cluster of them."""
        for _ in range(2 * MASTERS):
            self.nodes.append(member(self._lines, papers=self.papers))
        first, masters, replicas = self.nodes[0], self.nodes[:MASTERS], self.nodes[MASTERS:]
        for number, master in enumerate(masters):
            share = range(SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS)
            ask(master, "CLUSTER", "ADDSLOTS", *map(str, share))
            ask(master, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in self.nodes[1:]:
            ask(first, "CLUSTER", "MEET", node.host, str(node.port + self._told), str(node.port + BUS))
        until(self._strangers, self.seconds)
        for master, replica in zip(masters, replicas, strict=True):
            ask(replica, "CLUSTER", "REPLICATE", str(ask(master, "CLUSTER", "MYID")))
        self.await_whole()

    def _lines(self, port: int) -> Sequence[str]:
        secured = ("tls-cluster yes",) if self.papers is not None else ()
        return (*_NODE, f"cluster-port {port + BUS}", *secured)

    @property
    def url(self) -> str:
        return f"{self.product.scheme}://{self._addresses(self.nodes[:MASTERS])}"

    def masters_by(self, node: LocalService) -> list[LocalService]:
        """Who has slots, as this node says; nobody if it does not answer."""
        try:
            ranges = ask(node, "CLUSTER", "SLOTS")
        except OSError:
            return []
        assert isinstance(ranges, list)
        ports = {int(one[2][1]) for one in ranges}
        return [one for one in self.nodes if one.port in ports]

    def writable(self) -> Sequence[LocalService]:
        for node in self.nodes:
            if masters := self.masters_by(node):
                return masters
        message = "no node answers"
        raise ServiceError(message)

    def replicas_of(self, master: LocalService) -> list[LocalService]:
        """Who follows this master."""
        about = [(one, told(one, "INFO", "replication")) for one in self.nodes]
        return [one for one, said in about if said.get("master_port") == str(master.port + self._told)]

    def _strangers(self) -> str:
        for node in self.nodes:
            known = told(node, "CLUSTER", "INFO").get("cluster_known_nodes")
            if known != str(len(self.nodes)):
                return f"the node at {node.port} knows {known} nodes"
        return ""

    def whole(self) -> str:
        if strangers := self._strangers():
            return strangers
        views = {tuple(one.port for one in self.masters_by(node)) for node in self.nodes}
        if len(views) != 1 or len(next(iter(views))) != MASTERS:
            return f"the nodes name as masters {views}"
        for node in self.nodes:
            if missing := self._ailing(node, leads=node.port in next(iter(views))):
                return f"the node at {node.port} {missing}"
        return ""

    def _ailing(self, node: LocalService, *, leads: bool) -> str:
        state, about = told(node, "CLUSTER", "INFO"), told(node, "INFO", "replication")
        if state.get("cluster_state") != "ok" or state.get("cluster_slots_ok") != str(SLOTS):
            return f"is in the state {state.get('cluster_state')} with {state.get('cluster_slots_ok')} good slots"
        if about.get("role") != ("master" if leads else "slave"):
            return f"calls itself {about.get('role')}"
        if leads:
            return "" if "state=online" in about.get("slave0", "") else "has no replica"
        return "" if about.get("master_link_status") == "up" else "does not follow yet"
