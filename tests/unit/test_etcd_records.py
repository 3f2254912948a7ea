"""What the etcd store has in the server: keys, leases, many and large records, revisions, buckets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time

import pytest
from echo_records import HERE, PATH, following, key, opened, record, values
from etcd_stores import Make, ask, bounded, make, namespace, own, raised, server, store_at, text, version

from sofa_registry_adapters.backends.etcd import BACKEND, connecting
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import Conflict, ValueTooLarge
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record
from sofa_registry_adapters.testing.faults import eventually_async
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["make", "namespace", "own", "server", "version"]


@bounded
async def test_keys_are_what_an_operator_expects(make: Make, server: Service, namespace: str) -> None:
    plain = make()
    bare = EtcdStore(
        parse_target(f"{server.url}?leading_slash=no&namespace={namespace}", BACKEND),
        SystemClock(),
    )
    async with opened(plain, bare):
        await plain.put([record(), record("b", owned=False)])
        await bare.put([record(owned=False)])
        # All there are, from byte zero.
        found = ask(server, "kv/range", key="AA==", range_end="AA==", keys_only=True)["kvs"]
        keys = {base64.b64decode(one["key"]).decode(): int(one.get("lease", 0)) != 0 for one in found}
        assert {name: leased for name, leased in keys.items() if namespace in name} == {
            f"/unit/{namespace}/services/echo/a": True,
            f"/unit/{namespace}/services/echo/b": False,
            f"{namespace}/services/echo/a": False,
        }
        assert await bare.buckets(()) == ["services"]
        await bare.delete([key()])


@bounded
async def test_a_reader_has_no_lease_and_a_writer_one(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store, reader = (store_at(f"{server.host}:{server.port}", namespace=namespace) for _ in range(2))
    before = len(ask(server, "lease/leases").get("leases", ()))
    async with opened(store, reader), following(reader):
        assert not await reader.renew()
        assert len(ask(server, "lease/leases").get("leases", ())) == before
        for number in range(3):
            await asyncio.gather(*(store.put([record(f"{number}-{other}")]) for other in range(5)))
        assert len(ask(server, "lease/leases")["leases"]) == before + 1
    assert len(ask(server, "lease/leases").get("leases", ())) == before


@bounded
async def test_thousands_of_records_in_order(make: Make) -> None:
    store = make()
    one_bucket = [record(f"{number:04}") for number in range(1000)]
    several = [Record(("services", f"s{number % 3}"), f"{number:04}", b"") for number in range(500)]
    async with opened(store):
        assert set(map(type, (await store.put(one_bucket)).values())) == {str}
        answers = await store.put(several)
        revisions = [int(str(answers[one.key])) for one in several]
        assert revisions == sorted(revisions), "of different buckets what comes first is written first"
        assert len(await values(store)) == 1000
        assert await store.delete([one.key for one in reversed(one_bucket)]) == {}
        assert await values(store) == {}
        assert not await store.renew()


@bounded
async def test_records_that_are_large_together(make: Make) -> None:
    store, reader = make(), make()
    some = [record(f"{number}", bytes([number]) * 700_000) for number in range(6)]
    async with opened(store, reader), following(reader) as follower:
        await store.put(some)
        await follower.shows({one.key: one.value for one in some})


@bounded
async def test_answers_larger_than_a_message_may_be(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "MESSAGE_BYTES", 500_000)
    store = make()
    some = [record(f"{number}", b"x" * 10_000) for number in range(120)]
    async with opened(store):
        await store.put(some)
        assert len(await values(store)) == 120
        assert await values(store, Bucket(("services",), deep=True)) == {one.key: one.value for one in some}


@bounded
async def test_a_server_with_narrow_limits(own: OwnEtcd) -> None:
    server = own("--max-txn-ops=12", "--max-request-bytes=50000")
    store = store_at(f"{server.host}:{server.port}")
    some = [record(f"{number}") for number in range(100)]
    async with opened(store):
        answers = await store.put([*some, record("large", b"x" * 60_000)])
        assert isinstance(answers.pop(key("large")), ValueTooLarge)
        assert {type(one) for one in answers.values()} == {str}
        assert len(await values(store)) == 100
        assert await store.delete([one.key for one in some]) == {}
        assert await values(store) == {}


@bounded
async def test_too_much_is_refused_before_it_is_sent(make: Make) -> None:
    store = make()
    async with opened(store):
        began = time.monotonic()
        answers = await store.put([record("a", b"x" * 1_600_000), Record(PATH, "n" * 20_000, b"")])
        assert time.monotonic() - began < 0.05
        assert {type(one) for one in answers.values()} == {ValueTooLarge}
        assert "1600000 bytes" in str(answers[key()])
        assert isinstance(await raised(store.compare_and_put(record("a", b"x" * 1_600_000), None)), ValueTooLarge)


@bounded
async def test_revisions_of_other_products(make: Make) -> None:
    store = make()
    async with opened(store):
        await store.put([record(owned=False)])
        for strange in ("", "0", "-1", "12:3", "9" * 40, "٣", "d41d8cd98f00b204e9800998ecf8427e"):
            error = await raised(store.compare_and_put(record(value=b"2", owned=False), strange))
            assert isinstance(error, Conflict), strange
            assert isinstance(await raised(store.compare_and_delete(key(), strange)), Conflict)
            absent = await raised(store.compare_and_put(record("absent"), strange))
            assert isinstance(absent, Conflict), "an absent record is at no revision"
        assert await values(store) == {key(): b"1"}


@bounded
async def test_compare_and_set_by_many_is_exact(make: Make) -> None:
    stores = [make() for _ in range(4)]

    async def count(store: EtcdStore) -> None:
        done = 0
        while done < 50:
            found = await store.read(HERE)
            assert found is not None
            now = found.records[0] if found.records else None
            value = b"%d" % (int(now.record.value) + 1 if now else 1)
            with contextlib.suppress(Conflict):
                await store.compare_and_put(record(value=value, owned=False), now.revision if now else None)
                done += 1

    async with opened(*stores):
        await asyncio.gather(*map(count, stores))
        assert await values(stores[0]) == {key(): b"200"}


@bounded
async def test_foreign_bytes_in_keys(make: Make, server: Service, namespace: str) -> None:
    store = make()
    raw = base64.b64encode(f"/unit/{namespace}/services/echo/".encode() + b"\xff\xfe").decode()
    async with opened(store), following(store, Bucket((), deep=True)) as follower:
        ask(server, "kv/put", key=raw, value=text("1"))
        await eventually_async(lambda: len(follower.values) == 1, 5.0)
        assert await values(store) == follower.values
        assert await store.delete(list(follower.values)) == {}
        await follower.shows({})


@bounded
async def test_listing_jumps_over_large_buckets(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sofa_registry_adapters.backends.etcd.reading.PAGE", 5)
    store = make()
    names = ["foo", "foo.", "foobar", "fo", "z", "a", "%2F"]
    some = [Record(("services", name), f"{number:02}", b"") for name in names for number in range(12)]
    async with opened(store):
        await store.put([*some, Record(("services",), "record", b""), Record(("services", "deep", "er"), "1", b"")])
        assert sorted(await store.buckets(("services",))) == sorted([*names, "deep"])
        assert await store.buckets(()) == ["services"]
        assert len(await values(store, Bucket(("services",), deep=True))) == 12 * 7 + 2


@bounded
async def test_a_known_revision_of_a_watched_bucket_costs_one_look(make: Make) -> None:
    store, writer = make(), make()
    async with opened(store, writer), following(store) as follower:
        for number in range(3):
            await writer.put([record(f"{number}")])
            await eventually_async(lambda: len(follower.values) > number, 5.0)  # noqa: B023
            last = follower.messages[-1].revision
            assert await store.read(HERE, last) is None
            await writer.put([Record(("services", "elsewhere"), "a", b"")])
            assert await store.read(HERE, last) is None
        await writer.delete([key("0")])
        assert await store.read(HERE, last) is not None, "one that is gone is noticed"
        await follower.shows({key("1"): b"1", key("2"): b"1"})
        last = follower.messages[-1].revision
        assert await store.read(HERE, last) is None
        found = await store.read(HERE)
        assert found is not None
        assert await store.read(HERE, found.revision) is None, "as of a read"
        await writer.put([record("1", b"2")])
        assert await store.read(HERE, found.revision) is not None
