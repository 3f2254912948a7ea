"""A master, two replicas and three Sentinels."""

from __future__ import annotations

from collections.abc import Sequence

from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.product import Product
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.redis_sets.members import RedisSet, ask, member, told
from sofa_registry_adapters.testing.services.secured import Papers
from sofa_registry_adapters.testing.services.service import ServiceError

NAME = "main"
"""What the Sentinels call the master."""
REPLICAS = 2
SENTINELS = 3
DOWN_SECONDS = 1.0
"""How long a server is silent before a Sentinel calls it down."""
_NODE = (
    'save ""',
    "appendonly no",
    "rdb-del-sync-files yes",
    "repl-diskless-sync yes",
    "repl-diskless-sync-delay 0",
    "repl-ping-replica-period 1",
)


def sentinel_set(*, min_replicas: int = 0, papers: Papers | None = None) -> SentinelSet:
    """A set that is whole, to be closed by the caller. ``min_replicas``: so many have to follow for the master to take a write.

    With ``papers`` they speak TLS, to each other as well; the ports of `Service` are without.

    Raises:
        ServiceUnavailable: there is no redis-server here.
        ServiceError: it did not become whole.
    """
    made = SentinelSet(min_replicas, papers)
    try:
        made.build()
    except BaseException:
        made.close()
        raise
    return made


class SentinelSet(RedisSet):
    """See `sentinel_set`. The verbs that are not for single servers are done to the master and the replicas; the Sentinels stay as they are."""

    def __init__(self, min_replicas: int = 0, papers: Papers | None = None) -> None:
        redis = PRODUCTS["redis"]
        super().__init__(
            Product(
                name="redis-sentinel",
                scheme="redis+sentinel" if papers is None else "rediss+sentinel",
                port=26379,
                package=redis.package,
                image=redis.image,
                probe=redis.probe,
                local=redis.local,
            ),
            papers,
        )
        self.sentinels: list[LocalService] = []
        self._lines = (*_NODE, f"min-replicas-to-write {min_replicas}", "min-replicas-max-lag 2")

    def build(self) -> None:
        """Start all servers."""
        first = member(lambda _: self._lines, papers=self.papers)
        port = first.port + self._told
        self.nodes.append(first)
        for _ in range(REPLICAS):
            self.nodes.append(member(lambda _: (*self._lines, f"replicaof {first.host} {port}"), papers=self.papers))
        for _ in range(SENTINELS):
            self.sentinels.append(member(lambda _: _watching(first.host, port), "--sentinel", papers=self.papers))
        self.await_whole()

    @property
    def everybody(self) -> Sequence[LocalService]:
        return (*self.nodes, *self.sentinels)

    @property
    def url(self) -> str:
        return f"{self.product.scheme}://{self._addresses(self.sentinels)}/{NAME}"

    @property
    def master(self) -> LocalService:
        """The one that the Sentinels name; those that do not answer are not asked."""
        for sentinel in self.sentinels:
            try:
                answer = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
            except OSError:
                continue
            if isinstance(answer, list):
                return self.node_at(int(answer[1]))
        message = "no Sentinel answers"
        raise ServiceError(message)

    def node_at(self, port: int) -> LocalService:
        """The node that Sentinels know by this port."""
        return next(one for one in self.nodes if one.port + self._told == port)

    @property
    def replicas(self) -> list[LocalService]:
        """All nodes that are not the master."""
        master = self.master
        return [one for one in self.nodes if one is not master]

    def writable(self) -> Sequence[LocalService]:
        return (self.master,)

    def whole(self) -> str:
        masters = [node for node in self.nodes if told(node, "INFO", "replication").get("role") == "master"]
        if len(masters) != 1:
            return f"{len(masters)} servers call themselves the master"
        master = masters[0]
        about = told(master, "INFO", "replication")
        online = sum("state=online" in value for name, value in about.items() if name.startswith("slave"))
        if online != len(self.nodes) - 1:
            return f"{online} replicas follow the master"
        for sentinel in self.sentinels:
            if missing := self._unsure(sentinel, master):
                return f"the Sentinel at {sentinel.port} {missing}"
        return ""

    def _unsure(self, sentinel: LocalService, master: LocalService) -> str:
        try:
            answer = ask(sentinel, "SENTINEL", "MASTER", NAME)
        except OSError as error:
            return f"does not answer: {error}"
        assert isinstance(answer, list)
        said = dict(zip(answer[::2], answer[1::2], strict=True))
        wanted = {
            "port": str(master.port + self._told),
            "flags": "master",
            "num-slaves": str(len(self.nodes) - 1),
            "num-other-sentinels": str(len(self.sentinels) - 1),
        }
        wrong = {name: said.get(name) for name, value in wanted.items() if said.get(name) != value}
        return f"says {wrong}" if wrong else ""


def _watching(host: str, port: int) -> Sequence[str]:
    return (
        f"sentinel monitor {NAME} {host} {port} {SENTINELS // 2 + 1}",
        f"sentinel down-after-milliseconds {NAME} {DOWN_SECONDS * 1000:.0f}",
        f"sentinel failover-timeout {NAME} 3000",
        f"sentinel parallel-syncs {NAME} {REPLICAS}",
    )
