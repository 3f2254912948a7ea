"""The local store in a process that forks."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from local_folder import Folder, folder, following, lock_files, names, run

from sofa_registry_adapters.backends.local import BACKEND
from sofa_registry_adapters.backends.local import poller as poller_module
from sofa_registry_adapters.backends.local import process as process_module
from sofa_registry_adapters.backends.local import session as session_module
from sofa_registry_adapters.backends.local.owners import is_held
from sofa_registry_adapters.backends.local.process import Process
from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.errors import ForkUnsupported
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["folder"]

FORKING = """
    import os, threading

    def in_child():
        async def main():
            store = new_store()
            await store.open()
            await store.put(publish("child"))
            if {parent_closes}:
                with open({flag!r}, "w"):
                    pass
                while os.path.exists({flag!r}):
                    time.sleep(0.01)
            await store.put(publish("child2"))
            snapshot = await store.read(Bucket(PLACE))
            print("child sees", *sorted(one.key.name for one in snapshot.records), flush=True)
            await store.close()
        asyncio.run(main())

    inherited = new_store()

    async def fork():
        await inherited.open()
        await inherited.put(publish("parent"))
        watch = inherited.watch(Bucket(PLACE))
        await anext(watch)
        pid = os.fork()
        if pid == 0:
            return pid
        if {parent_closes}:
            while not os.path.exists({flag!r}):
                await asyncio.sleep(0.01)
            await inherited.close()
            os.unlink({flag!r})
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            await asyncio.sleep(0.01)
        if not {parent_closes}:
            assert not await inherited.renew()
            await inherited.put(publish("parent2"))
            print("forked", flush=True)
            await renewing(inherited, ())
        return pid

    loop = asyncio.new_event_loop()
    if loop.run_until_complete(fork()) == 0:
        asyncio.events._set_running_loop(None)
        try:
            asyncio.run(inherited.read(Bucket(PLACE)))
        except Exception as error:
            print("inherited", type(error).__name__, flush=True)
        asyncio.run(inherited.close())
        del inherited
        import gc
        gc.collect()
        in_child()
        os._exit(0)
    print("end", flush=True)
    os._exit(0)
"""


def test_a_forked_child_works_beside_its_parent(folder: Folder) -> None:
    body = FORKING.format(parent_closes=False, flag="")

    async def main(folder: Folder) -> None:
        store = await folder.open()
        async with following(store) as follower:
            with folder.child(body) as child:
                await asyncio.to_thread(child.expect, "inherited Closed")
                await asyncio.to_thread(child.expect, "child sees child child2 parent")
                await asyncio.to_thread(child.expect, "forked")
                await follower.shows({"parent", "parent2"})
                # Time enough for a lock that was lost to be found so.
                seen = len(follower.messages)
                assert all(is_held(path.parent, path.name) for path in _others(folder, store))
                assert len(_others(folder, store)) == 1
                await asyncio.sleep(3 * poller_module.PROBE_EVERY)
                assert len(follower.messages) == seen
                child.kill()
                await follower.shows(set())

    run(main, folder)


def test_what_a_forked_child_writes_outlives_its_parents_connection(folder: Folder, tmp_path: Path) -> None:
    body = FORKING.format(parent_closes=True, flag=str(tmp_path / "flag"))
    with folder.child(body) as child:
        child.expect("child sees child child2")
        child.expect("end")
        child.wait()

    async def main(folder: Folder) -> None:
        store = await folder.open()
        assert await names(store) == set()
        snapshot = await store.read(Bucket((), deep=True))
        assert snapshot is not None
        assert snapshot.revision.counter >= 6, "the child's changes are in the log"

    run(main, folder)


def test_a_child_forked_while_sqlite_was_busy_is_told_to_fork_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        connected = True

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def drop(self) -> None:
            self.connected = False

    monkeypatch.setattr(process_module, "QUIET_WITHIN", 0.05)
    process, idle, busy = Process(), Connection(), Connection()
    process.add_database(idle)
    process.hush()
    assert idle.lock.locked()
    assert not process.heir().tainted
    process.resume()
    assert not idle.lock.locked()
    process.add_database(busy)
    with busy.lock:
        process.hush()
        heir = process.heir()
        process.resume()
    assert heir.tainted
    assert heir.heir().tainted
    monkeypatch.setattr(session_module, "here", lambda: heir)
    with pytest.raises(ForkUnsupported, match="spawn"):
        asyncio.run(LocalStore(parse_target("local:///nowhere/x.db", BACKEND), SystemClock()).open())


def _others(folder: Folder, store: LocalStore) -> list[Path]:
    assert store._opening is not None
    return [path for path in lock_files(folder) if path.name != store._opening.session._owner]
