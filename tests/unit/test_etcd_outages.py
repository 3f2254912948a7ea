"""The etcd store when its server dies, freezes, is cut off, is restored from a backup, or was never one that will do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from echo_records import following, key, opened, record, values
from etcd_stores import ask, bounded, namespace, own, raised, store_at, text, version, works

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import RegistryError, Unavailable, Unsupported
from sofa_registry_adapters.spi.store import Record, RecordKey
from sofa_registry_adapters.testing.faults import eventually, eventually_async, free_port
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.services.local import LocalService

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["namespace", "own", "version"]

FILES = Path("/proc/self/fd")


@pytest.mark.parametrize("down", (0.5, 4.0))
@bounded
async def test_a_killed_server_comes_back_under_a_writer(own: OwnEtcd, namespace: str, down: float) -> None:
    server = own()
    store, writer = (store_at(f"{server.host}:{server.port}", namespace=namespace, lease=30) for _ in range(2))
    confirmed: dict[RecordKey, bytes] = {}
    stop = asyncio.Event()
    stopping = asyncio.create_task(stop.wait())

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            one = record(f"{number % 20}", b"%d" % number)
            # Written until it is confirmed, as the engine does it.
            while not stop.is_set() and not await works(lambda: writer.put([one])):  # noqa: B023
                await asyncio.wait((stopping,), timeout=0.1)
            confirmed[one.key] = one.value

    async with opened(store, writer), following(store) as follower:
        writing = asyncio.create_task(write())
        await eventually_async(lambda: len(follower.values) == 20, 5.0)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)
        count = len(confirmed)
        await eventually_async(lambda: store._session.link.current is not None, 2.0)  # type: ignore[union-attr]
        assert count == 20
        await asyncio.sleep(0.5)
        stop.set()
        await writing
        await follower.shows(confirmed)
        assert await values(store) == confirmed
        assert not await writer.renew(), "the lease went on counting, and was not over"


def test_an_outage_costs_no_processor_time(own: OwnEtcd, namespace: str) -> None:
    server, seconds = own(), 6.0
    with Registry(f"{server.url}?namespace={namespace}&snapshot=off") as registry:
        registry.publish("a", "10.0.0.1:1")
        registry.subscribe("a", lambda _: None)
        server.kill()
        time.sleep(0.5)
        before = time.process_time()
        time.sleep(seconds)
        used = time.process_time() - before
        server.start()
        eventually(lambda: not registry.lookup("a").stale, 5.0)
    assert used < 0.2 * seconds / 30 + 0.03, f"{used:.3f} s of processor time in {seconds:g} s"


@bounded
async def test_what_a_restored_backup_does_not_have_is_lost(own: OwnEtcd, namespace: str, tmp_path: Path) -> None:
    server = own()
    if not isinstance(server, LocalService):
        pytest.skip("the data of a server in a container is out of reach")
    backup = tmp_path / "backup"
    store = store_at(f"{server.host}:{server.port}", namespace=namespace, lease=60)

    async def restart(data: Path, copy: Path) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)
        await asyncio.to_thread(shutil.copytree, data, copy)
        await asyncio.to_thread(server.start)
        await eventually_async(lambda: works(store.renew), 5.0)

    async def lost(*expected: RecordKey) -> bool:
        with contextlib.suppress(Unavailable):
            return set(await store.renew()) == set(expected)
        return False

    many = [Record(("many",), f"{number}", b"") for number in range(150)]
    async with opened(store):
        await store.put([record("before"), record("changed"), many[0]])
        await restart(server.directory, backup)
        assert not await store.renew(), "a restart is no loss"
        await store.put([record("after"), record("changed", b"2"), *many[1:]])
        await restart(backup, server.directory)
        gone = [key("after"), key("changed"), *(one.key for one in many[1:])]
        await eventually_async(lambda: lost(*gone), 3.0, "what is not there as it was written is lost", interval=0.05)
        await store.put([record("after"), record("changed", b"2"), *many[1:]])
        assert not await store.renew()
        for name in ("services/echo/before", "many/0", "many/149"):
            ask(server.address, "kv/deleterange", key=text(f"/unit/{namespace}/{name}"))
        gone = [key("before"), many[0].key, many[149].key]
        await eventually_async(lambda: lost(*gone), 3.0, "the watches go on in the store as it is", interval=0.05)


@bounded
async def test_a_cut_costs_a_look_for_all_records(own: OwnEtcd, namespace: str) -> None:
    for place, most in ((own(), 3), (own("--max-txn-ops=12"), 64)):
        with place.proxy() as proxy:
            store = store_at(proxy.address, namespace=namespace)
            async with opened(store):
                # Two in each bucket: each record has a watch of its own.
                await store.put([Record(("many", f"{number // 2}"), f"{number}", b"") for number in range(250)])
                assert not await store.renew()
                session = store._session
                assert session is not None
                asked, ask_ = [], session.link.ask

                async def counted(*request: Any, ask_: Any = ask_, asked: list[object] = asked) -> Any:
                    asked.append(request)
                    return await ask_(*request)

                session.link.ask = counted  # type: ignore[method-assign]
                proxy.cut()
                await eventually_async(session.holdings.alarm.is_set, 2.0)
                await eventually_async(lambda: works(store.renew), 2.0)  # noqa: B023
                assert not await store.renew()
                assert 1 <= len(asked) <= most
                assert all(guard.watch is not None for guard in session.holdings._guards.values())


@bounded
async def test_a_frozen_server_is_told_by_raising(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store = store_at(f"{server.host}:{server.port}", namespace=namespace, lease=3, call_timeout=2.0)
    loop = asyncio.get_running_loop()
    async with opened(store), following(store) as follower:
        await store.put([record()])
        await follower.shows({key(): b"1"})
        await asyncio.to_thread(server.pause)
        try:
            await asyncio.sleep(0.05)
            began = loop.time()
            assert isinstance(await raised(store.renew()), Unavailable)
            assert loop.time() - began < 1.0, "before the engine's patience of a third of the lease is over"
            await eventually_async(lambda: follower.cuts, 1.0, "the watch is cut as well")
            began = loop.time()
            assert isinstance(await raised(store.put([record("b")])), Unavailable)
            assert loop.time() - began < 2.2
            await is_cancelled_at_once(store)
        finally:
            await asyncio.to_thread(server.resume)
        await eventually_async(lambda: works(store.renew), 3.0)
        await store.put([record()])
        await follower.shows({key(): b"1"})
        await asyncio.to_thread(server.pause)
        try:
            began = loop.time()
            await store.close()
            assert loop.time() - began < 0.8
        finally:
            await asyncio.to_thread(server.resume)


async def is_cancelled_at_once(store: EtcdStore) -> None:
    """A write that waits for the server ends when it is cancelled, and as cancelled."""
    while True:
        task = asyncio.create_task(store.put([record("b")]))
        await asyncio.wait((task,), timeout=0.05)
        if not task.done():
            break
        # It was answered at once, with the failure of a moment ago.
        assert isinstance(task.exception(), Unavailable)
    task.cancel()
    began = time.monotonic()
    done, _ = await asyncio.wait((task,), timeout=1.0)
    assert done, "a cancelled verb goes on"
    assert task.cancelled(), "a cancellation was swallowed"
    assert time.monotonic() - began < 0.1


@bounded
async def test_a_call_that_is_cancelled_leaves_the_connection_alone(own: OwnEtcd, namespace: str) -> None:
    server = own()
    store = store_at(f"{server.host}:{server.port}", namespace=namespace)
    async with opened(store), following(store) as follower:
        for number in range(100):
            task = asyncio.create_task(store.put([record(f"{number}")]))
            await asyncio.sleep(number / 100_000)
            task.cancel()
            await asyncio.wait((task,))
        await store.put([record("last")])
        await eventually_async(lambda: key("last") in follower.values, 5.0)
        assert follower.values == await values(store)
        assert not follower.cuts


@bounded
async def test_a_network_that_swallows_everything(own: OwnEtcd, namespace: str) -> None:
    server = own()
    with server.proxy() as proxy:
        store = store_at(f"{proxy.host}:{proxy.port}", namespace=namespace, lease=3)
        async with opened(store), following(store) as follower:
            await store.put([record()])
            proxy.black_hole()
            assert isinstance(await raised(store.renew()), Unavailable)
            began = time.monotonic()
            assert isinstance(await raised(store.renew()), Unavailable)
            assert time.monotonic() - began < 2.5
            proxy.pass_through()
            await eventually_async(lambda: works(store.renew), 3.0)
            await follower.shows({key(): b"1"})
            proxy.black_hole()
            began = time.monotonic()
            await store.close()
            assert time.monotonic() - began < 0.8


@pytest.mark.skipif(not FILES.is_dir(), reason="the files of a process cannot be counted here")
@bounded
async def test_nothing_is_left_of_a_store_not_even_for_the_collector(own: OwnEtcd, namespace: str) -> None:
    server = own()

    def count() -> tuple[int, int]:
        return threading.active_count(), len(list(FILES.iterdir()))

    async def once() -> None:
        store = store_at(f"{server.host}:{server.port}", namespace=namespace)
        async with opened(store), following(store):
            await store.put([record()])
            await store.renew()
            assert isinstance(await raised(store.compare_and_put(record(), None)), RegistryError)

    await once()
    gc.collect()
    await asyncio.sleep(0.2)
    before = count()
    gc.disable()
    try:
        for _ in range(5):
            await once()
        await eventually_async(lambda: count() <= before, 2.0, f"{before} before")
    finally:
        gc.enable()


@bounded
async def test_nobody_is_there(own: OwnEtcd) -> None:
    loop = asyncio.get_running_loop()
    for place, words in (
        (f"127.0.0.1:{free_port('127.0.0.1')}", "refused"),
        ("no-such-host.invalid:2379", "no-such-host.invalid"),
    ):
        store = store_at(place)
        began = loop.time()
        error = await raised(store.open())
        assert loop.time() - began < 2.5
        assert isinstance(error, Unavailable)
        assert words in str(error).lower()
        assert isinstance(await raised(store.renew()), RegistryError)


@bounded
async def test_another_product_is_there(redis_service: Service) -> None:
    began = time.monotonic()
    error = await raised(store_at(f"{redis_service.host}:{redis_service.port}").open())
    assert isinstance(error, Unavailable)
    assert time.monotonic() - began < 2.5


@bounded
async def test_a_server_that_is_too_old() -> None:
    """There is none of such an age to be had: one that says so, and knows nothing else."""
    status = messages.call("Maintenance", "Status")

    async def answer(request: bytes, context: Any) -> bytes:
        told: bytes = messages.rpc.StatusResponse(version="3.3.27", leader=1).SerializeToString()
        return told

    service, method = status.path.strip("/").split("/")
    server = grpc.aio.server()
    handlers = {method: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    error = await raised(store_at(f"127.0.0.1:{port}").open())
    await server.stop(None)
    assert isinstance(error, Unsupported)
    assert "3.3.27" in str(error)
    assert "3.4" in str(error)
