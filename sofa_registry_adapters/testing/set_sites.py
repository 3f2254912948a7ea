"""The sites of several Redis servers that are one registry."""

from __future__ import annotations

from collections.abc import Mapping

from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.operators.redis import RedisOperator
from sofa_registry_adapters.testing.services.redis_sets import RedisSet
from sofa_registry_adapters.testing.sites import AddressSite


class RedisSetSite(AddressSite):
    """A set of the test kit's own, which ends with the site. A verb is done to all servers that have records."""

    abilities = frozenset({"kill", "start", "stop", "pause", "resume", "wipe", "forget", "expire", "hang_up"})
    keeps_data = False

    def __init__(self, servers: RedisSet, options: Mapping[str, Value] | None = None) -> None:
        super().__init__(servers.url, options)
        self.servers = servers

    def kill(self) -> None:
        self.servers.kill()

    def start(self) -> None:
        self.servers.start()

    def stop(self) -> None:
        self.servers.stop()

    def pause(self) -> None:
        self.servers.pause()

    def resume(self) -> None:
        self.servers.resume()

    def wipe(self) -> None:
        self.servers.wipe()

    def forget(self) -> None:
        for operator in self._operators():
            operator.forget()

    def expire(self) -> None:
        for operator in self._operators():
            operator.expire()

    def hang_up(self) -> None:
        for operator in self._operators():
            operator.hang_up()

    def version(self) -> str:
        node = self.servers.nodes[0]
        return RedisOperator(node.host, node.port).version()

    def heal(self) -> None:
        self.servers.start()

    def close(self) -> None:
        super().close()
        self.servers.close()

    def _operators(self) -> list[RedisOperator]:
        return [RedisOperator(one.host, one.port) for one in self.servers.writable()]
