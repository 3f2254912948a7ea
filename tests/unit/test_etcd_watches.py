"""The watches of the etcd store: compaction, transactions, one stream for all, and those that go on from where they were."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from echo_records import HERE, Follower, following, key, opened, record
from etcd_stores import Make, bounded, compact, make, namespace, own, server, store_at, version

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StoreSnapshot
from sofa_registry_adapters.testing.faults import eventually, eventually_async
from sofa_registry_adapters.testing.plugin import OwnEtcd

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["make", "namespace", "own", "server", "version"]


@bounded
async def test_a_compaction_between_reading_and_watching(make: Make, own: OwnEtcd, namespace: str) -> None:
    server = own()
    store, writer = (store_at(f"{server.host}:{server.port}", namespace=namespace) for _ in range(2))
    async with opened(store, writer):
        session = store._session
        assert session is not None
        await writer.put([record("a")])
        reading, fresh = session.read, [True]

        async def read_and_lose(bucket: Bucket) -> Any:
            found = await reading(bucket)
            if fresh.pop() if fresh else False:
                await writer.put([record("b")])
                await writer.delete([key("a")])
                await asyncio.to_thread(compact, server)
            return found

        session.read = read_and_lose  # type: ignore[method-assign]
        async with following(store) as follower:
            await follower.shows({key("b"): b"1"})
            assert follower.snapshots == 2, "it reads again"
            assert not follower.cuts, "and other watches are left alone"
            await writer.put([record("c")])
            await follower.shows({key("b"): b"1", key("c"): b"1"})


@bounded
async def test_changes_in_one_transaction_are_one_message(make: Make) -> None:
    store, writer = make(), make()
    async with opened(store, writer), following(store) as follower:
        await writer.put([record(f"{number}") for number in range(100)])
        await follower.shows({key(f"{number}"): b"1" for number in range(100)})
        assert len(follower.messages) == 2


@bounded
async def test_ten_thousand_records_vanish_at_once(make: Make) -> None:
    store, writer = make(lease=30), make(lease=30)
    late = [0.0]

    async def look() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            late[0] = max(late[0], time.monotonic() - before)

    async with opened(store, writer), following(store) as follower:
        await writer.put([record(f"{number}", b"x" * 200) for number in range(10_000)])
        await eventually_async(lambda: len(follower.values) == 10_000, 20.0)
        looking = asyncio.create_task(look())
        await writer.close()
        await follower.shows({})
        looking.cancel()
        await asyncio.wait((looking,))
        assert late[0] < 0.5, f"the loop stood still for {late[0]:.3f} s"


@bounded
async def test_watches_share_one_stream_and_end_alone(make: Make) -> None:
    store, writer = make(), make()
    async with opened(store, writer):
        session = store._session
        assert session is not None
        followers = [Follower(store, Bucket(("many", f"{number}"))) for number in range(200)]
        await eventually_async(lambda: all(one.messages for one in followers), 5.0)
        assert len(session.link._conversations) == 1
        for one in followers[1:]:
            await one.close()
        assert len(session.stream._watches) == 1
        await writer.put([Record(("many", "0"), "a", b"1")])
        await followers[0].shows({RecordKey(("many", "0"), "a"): b"1"})
        assert not followers[0].cuts
        await followers[0].close()


class Resumer:
    """Watches, and goes on from where it was, as the engine does it; counts what it is told."""

    def __init__(self, store: EtcdStore) -> None:
        self.values: dict[RecordKey, bytes] = {}
        self.begun: list[str] = []
        self._store = store
        self._since: Revision | None = None

    async def until(self, expected: dict[RecordKey, bytes], *, begins: str) -> None:
        """Watch until the values are these, then stop watching."""
        watch = self._store.resume(HERE, self._since) if self._since else self._store.watch(HERE)
        async with asyncio.timeout(5), contextlib.aclosing(watch) as found:  # type: ignore[type-var]
            kind = ""
            async for message in found:
                kind = kind or type(message).__name__
                if isinstance(message, StoreSnapshot):
                    self.values = {one.key: one.record.value for one in message.records}
                else:
                    self.values |= {one.key: one.record.value for one in message.changed}
                    for gone in message.removed:
                        del self.values[gone]
                self._since = message.revision
                if self.values == expected:
                    break
        assert kind == begins


@bounded
async def test_a_watch_goes_on_from_where_it_was(make: Make) -> None:
    store, writer = make(), make()
    resumer = Resumer(store)
    async with opened(store, writer):
        await writer.put([record("a"), record("b"), record("c", owned=False)])
        values_ = {key("a"): b"1", key("b"): b"1", key("c"): b"1"}
        await resumer.until(values_, begins="StoreSnapshot")
        await resumer.until(values_, begins="StorePatch")
        await writer.put([record("a", b"2"), record("d")])
        await writer.delete([key("b")])
        await writer.put([Record(("services", "elsewhere"), "a", b"")])
        values_ = {key("a"): b"2", key("c"): b"1", key("d"): b"1"}
        await resumer.until(values_, begins="StorePatch")
        await resumer.until(values_, begins="StorePatch")
        last = store._session._ended[HERE]  # type: ignore[union-attr]
        assert last.size == 3
        await writer.delete([key("d")])
        await resumer.until({key("a"): b"2", key("c"): b"1"}, begins="StorePatch")
        await writer.close()
        await resumer.until({key("c"): b"1"}, begins="StorePatch")
        await writer.open()
        await writer.delete([key("c")])
        await resumer.until({}, begins="StorePatch")
        await writer.put([record("e")])
        await resumer.until({key("e"): b"1"}, begins="StorePatch")


@bounded
async def test_a_watch_begins_anew_where_history_is_not_certain(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store, writer = (store_at(f"{server.host}:{server.port}", namespace=namespace) for _ in range(2))
    resumer = Resumer(store)
    async with opened(store, writer):
        await writer.put([record("a", owned=False), record("b", owned=False)])
        await resumer.until({key("a"): b"1", key("b"): b"1"}, begins="StoreSnapshot")
        await writer.delete([key("a")])
        compact(server)
        await resumer.until({key("b"): b"1"}, begins="StoreSnapshot")
        # The same keys come to be at the same revisions in another life of the server.
        for other in (b"1", b"2"):
            await asyncio.to_thread(server.wipe)

            async def written() -> bool:
                with contextlib.suppress(Unavailable):
                    await writer.put([record("a", owned=False), record("b", owned=False)])
                    return True
                return False

            await eventually_async(written, 5.0)
            for number in range(30):
                await writer.put([record("b", other if number == 29 else b"%d" % number, owned=False)])

            async def reached() -> bool:
                with contextlib.suppress(Unavailable):
                    await store.renew()
                    return True
                return False

            await eventually_async(reached, 5.0)
            await resumer.until({key("a"): b"1", key("b"): other}, begins="StoreSnapshot")


def test_the_engine_reads_once_however_often_it_is_cut(own: OwnEtcd, namespace: str) -> None:
    server = own()
    with server.proxy() as proxy:
        url = f"etcd://{proxy.address}/unit?namespace={namespace}&snapshot=off"
        with Registry(f"{server.url}/unit?namespace={namespace}&snapshot=off") as publisher, Registry(url) as consumer:
            registration = publisher.publish("a", [f"10.0.0.{number}:1" for number in range(50)])
            consumer.subscribe("a", lambda _: None)
            read: list[object] = []
            session = consumer._opened().engine.backend._store._session
            reading = session.read

            async def counted(bucket: Bucket) -> object:
                read.append(bucket)
                return await reading(bucket)

            session.read = counted
            for weight in range(1, 21):
                proxy.cut()
                registration.update(weight=weight)
                eventually(lambda: {one.weight for one in consumer.lookup("a")} == {weight}, 5.0)  # noqa: B023
            assert proxy.cuts >= 20
            assert read == [], "what was known is not read again"
            assert not consumer.lookup("a").stale
