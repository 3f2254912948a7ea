"""The local store where threads, or the name of the boot, are not always to be had."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.local import BACKEND, owners
from sofa_registry_adapters.backends.local.owners import Owner, Vigil
from sofa_registry_adapters.backends.local.process import here
from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch
from sofa_registry_adapters.spi.worker import Worker
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import eventually

PLACE = ("services", "echo")
HERE = Bucket(PLACE)
POLLER = "sofa-registry local"
WRITER = "sofa-registry local writer"
READER = "sofa-registry local reader"

FailOnce = Callable[[str], list[str]]


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch) -> FailOnce:
    """Let the next thread of a name fail to start, as on a machine that has no more; the list has what failed."""

    def prepare(name: str) -> list[str]:
        failed: list[str] = []
        start = threading.Thread.start

        def scarce(self: threading.Thread) -> None:
            if self.name == name and not failed:
                failed.append(name)
                raise RuntimeError("can't start new thread")
            start(self)

        monkeypatch.setattr(threading.Thread, "start", scarce)
        return failed

    return prepare


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[LocalStore]:
    store = LocalStore(parse_target(f"local://{path}/registry.db", BACKEND), SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


def record(name: str) -> Record:
    return Record(PLACE, name, b"1", owned=True)


async def names(store: LocalStore) -> set[str]:
    snapshot = await store.read(HERE)
    assert snapshot is not None
    return {one.key.name for one in snapshot.records}


def test_a_worker_without_a_thread_tries_again(fail_once: FailOnce) -> None:
    async def main() -> None:
        worker = Worker("scarce")
        failed = fail_once("scarce")
        with pytest.raises(Unavailable, match="scarce cannot be started: can't start new thread"):
            await worker.run(int)
        assert failed
        assert await worker.run(int, "7") == 7
        worker.stop()

    run(main)


def test_a_watch_without_a_thread_is_opened_again(tmp_path: Path, fail_once: FailOnce) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store, opened(tmp_path) as other:
            failed = fail_once(POLLER)
            with pytest.raises(Unavailable, match="cannot be started"):
                await anext(store.watch(HERE))
            assert failed
            assert not list(store._opening.session.poller._watches()), "nobody is told any more"  # type: ignore[union-attr]
            async with contextlib.aclosing(store.watch(HERE)) as messages:  # type: ignore[type-var]
                await anext(messages)
                await other.put([record("a")])
                patch = await anext(messages)
                assert isinstance(patch, StorePatch)
                assert [one.key for one in patch.changed] == [RecordKey(PLACE, "a")]

    run(main)


def test_a_publisher_without_a_thread_writes_again(tmp_path: Path, fail_once: FailOnce) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            failed = fail_once(POLLER)
            with pytest.raises(Unavailable, match="cannot be started"):
                await store.put([record("a")])
            assert failed
            assert POLLER not in {thread.name for thread in threading.enumerate()}
            await store.put([record("a")])
            assert POLLER in {thread.name for thread in threading.enumerate()}, "it looks for dead owners"

    run(main)


@pytest.mark.parametrize("name", (POLLER, WRITER, READER))
def test_a_registry_gets_over_a_thread_that_did_not_start(tmp_path: Path, fail_once: FailOnce, name: str) -> None:
    url = f"local://{tmp_path}/registry.db?snapshot=off"
    with Registry(url) as provider:
        provider.publish("echo", "10.0.0.1:12200")
        failed = fail_once(name)
        with Registry(url) as consumer:
            hosts: list[list[str]] = []
            consumer.subscribe("echo", lambda change: hosts.append([one.host for one in change.instances]))
            eventually(lambda: hosts and hosts[-1] == ["10.0.0.1"], 5.0, "the first one is seen")
            provider.publish("echo", "10.0.0.2:12200")
            eventually(lambda: sorted(hosts[-1]) == ["10.0.0.1", "10.0.0.2"], 5.0, "the second one is seen")
            assert failed


def test_a_process_without_the_name_of_the_boot_expels_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as named:
            await named.put([record("named")])
            monkeypatch.setattr(owners, "_BOOT_ID", tmp_path / "hidden")
            async with opened(tmp_path) as unnamed:
                await unnamed.put([record("unnamed")])
                for store in (named, unnamed) * 3:
                    assert not await store.renew()
                    assert await names(store) == {"named", "unnamed"}
                    await store.put([record("named" if store is named else "unnamed")])

    run(main)


@pytest.mark.parametrize(("mine", "theirs"), (("", ""), ("", "boot"), ("boot", ""), ("boot", "boot")))
def test_without_a_name_of_the_boot_the_lease_counts(mine: str, theirs: str) -> None:
    clock = ManualClock()
    vigil = Vigil(clock, 10.0, here())
    vigil.boot = mine
    owner = Owner("x", theirs, vigil.expiry())
    assert not vigil.is_over(owner)
    for _ in range(4):
        clock.advance(3)
        vigil.touch()
    assert vigil.is_over(owner)
