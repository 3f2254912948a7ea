"""kazoo. A record is an ephemeral node; the watch is its ChildrenWatch, and a get for each new child, whose address it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kazoo.client import KazooClient

from measuring.places import Place
from measuring.raw.client import RawClient
from sofa_registry_adapters.spi.store import Record

PARENT = "/raw"
BATCH = 500


class Raw(RawClient):
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._client = KazooClient(hosts=f"{place.service.host}:{place.service.port}")
        self._client.start(timeout=10)
        self._client.ensure_path(PARENT)

    def publish(self, one: Record) -> None:
        self._client.create(f"{PARENT}/{one.name}", one.value, ephemeral=True)

    def watch(self, service: str, told: Callable[[], object]) -> None:
        path, known = f"/services/{service}", set[str]()

        def changed(children: list[str]) -> None:
            nonlocal known
            now = set(children)
            fresh, known = (now - known if known else set()), now
            for name in fresh:
                self._client.get(f"{path}/{name}")
            told()

        self._client.ChildrenWatch(path, changed)

    def snapshot(self, service: str) -> Sequence[bytes]:
        path = f"/services/{service}"
        waiting = [self._client.get_async(f"{path}/{name}") for name in self._client.get_children(path)]
        return [one.get()[0] for one in waiting]

    def write_all(self, records: Sequence[Record]) -> None:
        waiting: list[Any] = []
        for start in range(0, len(records), BATCH):
            transaction = self._client.transaction()
            for one in records[start : start + BATCH]:
                transaction.create(f"{PARENT}/{one.name}", one.value, ephemeral=True)
            waiting.append(transaction.commit_async())
        for one in waiting:
            one.get()

    def count(self, namespace: str, service: str) -> int:
        stat = self._client.exists(f"/{namespace}/services/{service}")
        return int(stat.children_count) if stat is not None else 0

    def clear(self) -> None:
        names = self._client.get_children(PARENT)
        for start in range(0, len(names), BATCH):
            transaction = self._client.transaction()
            for name in names[start : start + BATCH]:
                transaction.delete(f"{PARENT}/{name}")
            transaction.commit()

    def close(self) -> None:
        self._client.stop()
        self._client.close()
