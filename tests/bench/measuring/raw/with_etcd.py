"""etcd3. A record is a key with a lease; the watch is its own, on the prefix."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import sofa_registry_adapters.backends.etcd.messages  # noqa: F401  without it etcd3 does not load beside protobuf 4

import etcd3  # isort: skip

from measuring.places import Place
from measuring.raw.client import RawClient
from sofa_registry_adapters.spi.store import Record

BATCH = 100


class Raw(RawClient):
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._client = etcd3.client(host=place.service.host, port=place.service.port)
        self._lease = self._client.lease(120)
        self._watches: list[int] = []

    def publish(self, one: Record) -> None:
        self._client.put(f"/raw/{one.name}", one.value, lease=self._lease)

    def watch(self, service: str, told: Callable[[], object]) -> None:
        self._watches.append(self._client.add_watch_prefix_callback(f"/services/{service}/", lambda _: told()))

    def snapshot(self, service: str) -> Sequence[bytes]:
        return [value for value, _ in self._client.get_prefix(f"/services/{service}/")]

    def write_all(self, records: Sequence[Record]) -> None:
        put = self._client.transactions.put
        for start in range(0, len(records), BATCH):
            operations = [put(f"/raw/{one.name}", one.value, self._lease) for one in records[start : start + BATCH]]
            self._client.transaction(compare=[], success=operations, failure=[])

    def keep(self, every: float, ended: threading.Event) -> None:
        while not ended.wait(every):
            self._lease.refresh()

    def count(self, namespace: str, service: str) -> int:
        return int(self._client.get_prefix_response(f"/{namespace}/services/{service}/", count_only=True).count)

    def clear(self) -> None:
        self._client.delete_prefix("/raw/")

    def close(self) -> None:
        for watch in self._watches:
            self._client.cancel_watch(watch)
        self._client.close()
