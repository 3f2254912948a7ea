"""redis-py. A record is a field of a hash, its owner's lease a score in a sorted set, a change is published.

To publish: value, index of services and message, in one pipeline: what a registry on Redis needs at least.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

import redis

from measuring.places import Place
from measuring.raw.client import RawClient
from sofa_registry_adapters.spi.store import Record

KEY = "raw:records"
BATCH = 500


class Raw(RawClient):
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._client = redis.Redis(place.service.host, place.service.port)
        self._pubsubs: list[redis.client.PubSub] = []

    def publish(self, one: Record) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zadd("raw:index", {"raw": 0})
            pipe.hset(KEY, one.name, one.value)
            pipe.publish("raw:changes", one.value)
            pipe.execute()

    def watch(self, service: str, told: Callable[[], object]) -> None:
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(f"sofa:{{/services/{service}}}:changes")
        pubsub.get_message(timeout=1)
        self._pubsubs.append(pubsub)
        self._listen(pubsub, told)

    @staticmethod
    def _listen(pubsub: redis.client.PubSub, told: Callable[[], object]) -> None:
        def listen() -> None:
            with contextlib.suppress(Exception):
                for _ in pubsub.listen():
                    told()

        threading.Thread(target=listen, daemon=True).start()

    def watch_many(self, services: Sequence[str], told: Callable[[], object]) -> None:
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsubs.append(pubsub)
        for service in services:
            pubsub.subscribe(f"sofa:{{/services/{service}}}:changes")
            pubsub.get_message(timeout=1)
            self.snapshot(service)
        self._listen(pubsub, told)

    def snapshot(self, service: str) -> Sequence[bytes]:
        return list(self._client.hgetall(f"sofa:{{/services/{service}}}:records").values())

    def write_all(self, records: Sequence[Record]) -> None:
        for start in range(0, len(records), BATCH):
            with self._client.pipeline(transaction=False) as pipe:
                for one in records[start : start + BATCH]:
                    pipe.hset(KEY, one.name, one.value)
                    pipe.publish("raw:changes", one.value)
                pipe.execute()

    def keep(self, every: float, ended: threading.Event) -> None:
        while not ended.wait(every):
            self._client.zadd("raw:leases", {"me": 1})

    def count(self, namespace: str, service: str) -> int:
        return int(self._client.hlen(f"sofa:{{{namespace}/services/{service}}}:records"))

    def clear(self) -> None:
        self._client.delete(KEY)

    def close(self) -> None:
        for pubsub in self._pubsubs:
            with contextlib.suppress(Exception):
                pubsub.connection.disconnect()
        self._client.close()
