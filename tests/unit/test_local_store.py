"""The local store beyond its contract: processes that die, hang and fork, files that break and vanish."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sofa_registry_adapters.backends.local import BACKEND
from sofa_registry_adapters.backends.local import poller as poller_module
from sofa_registry_adapters.backends.local import process as process_module
from sofa_registry_adapters.backends.local import records as records_module
from sofa_registry_adapters.backends.local import session as session_module
from sofa_registry_adapters.backends.local.owners import Owner, Vigil, is_held
from sofa_registry_adapters.backends.local.place import Place
from sofa_registry_adapters.backends.local.process import Process, here
from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.errors import (
    Closed,
    Conflict,
    CorruptStore,
    Denied,
    ForkUnsupported,
    InvalidName,
    InvalidURL,
    Refused,
    RegistryError,
    Unavailable,
    Unsupported,
)
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import PythonProcess, eventually_async, python_process

PLACE = ("services", "echo")
HERE = Bucket(PLACE)
PUBLISHER = """
    import asyncio, contextlib, sys, time
    from sofa_registry_adapters.backends.local import BACKEND
    from sofa_registry_adapters.errors import RegistryError
    from sofa_registry_adapters.settings import parse_target
    from sofa_registry_adapters.spi.clock import SystemClock
    from sofa_registry_adapters.spi.store import Bucket, Record

    PLACE = ("services", "echo")
    names = sys.argv[1:]

    def new_store():
        return BACKEND.load()(parse_target({url!r}, BACKEND), SystemClock())

    def publish(*names):
        return [Record(PLACE, name, b"child") for name in names]

    async def renewing(store, wanted):
        while True:
            with contextlib.suppress(RegistryError):
                missing = await store.renew()
                if missing:
                    await store.put(publish(*(key.name for key in missing)))
                    print("again", *sorted(key.name for key in missing))
            await asyncio.sleep(0.05)
"""


class Folder:
    """Stores on one file of one test, closed at its end."""

    def __init__(self, path: Path) -> None:
        self.path = path / "registry.db"
        self.made: list[LocalStore] = []

    def url(self, options: str = "") -> str:
        return f"local://{self.path}{options}"

    def new(self, options: str = "", clock: ManualClock | None = None) -> LocalStore:
        store = LocalStore(parse_target(self.url(options), BACKEND), clock or SystemClock())
        self.made.append(store)
        return store

    async def open(self, options: str = "", clock: ManualClock | None = None) -> LocalStore:
        store = self.new(options, clock)
        await store.open()
        return store

    @contextlib.contextmanager
    def child(self, body: str, options: str = "") -> Iterator[PythonProcess]:
        program = textwrap.dedent(PUBLISHER.format(url=self.url(options))) + textwrap.dedent(body)
        with python_process(program) as process:
            yield process

    @contextlib.contextmanager
    def publisher(self, *names: str, options: str = "") -> Iterator[PythonProcess]:
        body = f"""
            async def main():
                store = new_store()
                await store.open()
                answers = await store.put(publish(*{names!r}))
                assert all(isinstance(answer, str) for answer in answers.values()), answers
                print("published", flush=True)
                await renewing(store, {names!r})

            asyncio.run(main())
        """
        with self.child(body, options) as process:
            process.expect("published")
            yield process

    def raw(self, statement: str) -> None:
        connection = sqlite3.connect(self.path, timeout=5)
        try:
            with connection:
                connection.execute(statement)
        finally:
            connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def run(main: Callable[[Folder], Awaitable[None]], folder: Folder) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            try:
                await main(folder)
            finally:
                for store in folder.made:
                    await store.close()

    asyncio.run(bounded())


def show(figure: str) -> None:
    sys.stdout.write(f"{figure}\n")


def record(name: str, value: bytes = b"1", *, owned: bool = True) -> Record:
    return Record(PLACE, name, value, owned=owned)


def key(name: str) -> RecordKey:
    return RecordKey(PLACE, name)


async def names(store: LocalStore) -> set[str]:
    snapshot = await store.read(HERE)
    assert snapshot is not None
    return {stored.key.name for stored in snapshot.records}


async def put(store: LocalStore, *records: Record) -> None:
    answers = await store.put(records)
    assert all(isinstance(answer, str) for answer in answers.values()), answers


class Follower:
    """What a watch has said."""

    def __init__(self, store: LocalStore, bucket: Bucket = HERE) -> None:
        self.names: set[str] = set()
        self.messages: list[StoreSnapshot | StorePatch] = []
        self.seen: dict[str, float] = {}
        self._watch = store.watch(bucket)
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for message in self._watch:
            self.messages.append(message)
            if isinstance(message, StoreSnapshot):
                self.names = {stored.key.name for stored in message.records}
                continue
            self.names -= {gone.name for gone in message.removed}
            self.names |= {stored.key.name for stored in message.changed}
            self.seen |= {stored.key.name: time.monotonic() for stored in message.changed}

    async def shows(self, expected: set[str], timeout: float = 5.0) -> None:
        def same() -> bool:
            if self.task.done():
                self.task.result()
            return bool(self.messages) and self.names == expected

        await eventually_async(same, timeout, f"a watch shows {sorted(expected)}", interval=0.002)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,), timeout=5)
        await self._watch.aclose()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def following(store: LocalStore, bucket: Bucket = HERE) -> AsyncIterator[Follower]:
    follower = Follower(store, bucket)
    try:
        yield follower
    finally:
        await follower.close()


# Processes that end, hang and race.


def test_a_killed_process_is_noticed_at_once(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("permanent", owned=False))
        figures = []
        async with following(store) as follower:
            for _ in range(3):
                with folder.publisher("a", "b") as child:
                    await follower.shows({"a", "b", "permanent"})
                    child.kill()
                    begun = time.monotonic()
                    await follower.shows({"permanent"}, 3.0)
                    figures.append(time.monotonic() - begun)
        show(f"kill -9 noticed after {[round(1000 * figure) for figure in figures]} ms")

    run(main, folder)


def test_a_killed_process_is_noticed_by_one_that_watches_nothing(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("own"))
        with folder.publisher("a") as child:
            child.kill()

        async def alone() -> bool:
            return await names(store) == {"own"}

        await eventually_async(alone, 3.0, "the dead one's records go")

    run(main, folder)


def test_what_the_dead_left_is_gone_when_a_store_opens(folder: Folder) -> None:
    with folder.publisher("a") as child:
        child.kill()

    async def main(folder: Folder) -> None:
        store = await folder.open()
        assert await names(store) == set()
        assert [path.name for path in _lock_files(folder)] == [store._opening.session._owner]  # type: ignore[union-attr]

    run(main, folder)


def test_a_dead_owner_is_no_conflict(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        with folder.publisher("a", "b") as child:
            assert isinstance((await store.put([record("a")]))[key("a")], Conflict)
            child.kill()
            await put(store, record("a"))
        revision = await store.compare_and_put(record("b"), None)
        assert revision

    run(main, folder)


def test_a_hung_process_is_noticed_by_its_lease_and_comes_back(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open("?lease=1s")
        renewing = asyncio.create_task(_renew(store))
        async with following(store) as follower:
            with folder.publisher("a", "b", options="?lease=1s") as child:
                await follower.shows({"a", "b"})
                child.stop()
                begun = time.monotonic()
                await follower.shows(set(), 5.0)
                show(f"SIGSTOP noticed after {time.monotonic() - begun:.2f} s with a lease of 1 s")
                assert time.monotonic() - begun > 0.3
                child.cont()
                begun = time.monotonic()
                child.expect("again a b")
                await follower.shows({"a", "b"}, 3.0)
                show(f"back {time.monotonic() - begun:.2f} s after SIGCONT")
        renewing.cancel()

    run(main, folder)


def test_a_live_process_is_not_expelled_by_one_that_was_stopped(folder: Folder) -> None:
    clock = ManualClock()

    async def main(folder: Folder) -> None:
        vigil = Vigil(clock, 10.0, here())
        sleeper = Owner("x", vigil.boot, vigil.expiry())
        clock.advance(60)
        vigil.touch()
        assert not vigil.is_over(sleeper)
        for _ in range(2):
            clock.advance(3)
            vigil.touch()
        assert vigil.is_over(sleeper)
        assert vigil.is_over(Owner("x", "another boot", vigil.expiry()))

    run(main, folder)


def test_two_processes_write_at_once(folder: Folder) -> None:
    body = """
        async def main():
            store = new_store()
            await store.open()
            for number in range(200):
                await store.put(publish(f"WHICH-{number}"))
            print("done", flush=True)
            await renewing(store, ())

        asyncio.run(main())
    """

    async def main(folder: Folder) -> None:
        store = await folder.open()
        async with following(store) as follower:
            with folder.child(body.replace("WHICH", "one")) as one, folder.child(body.replace("WHICH", "two")) as two:
                await asyncio.to_thread(one.expect, "done")
                await asyncio.to_thread(two.expect, "done")
                everything = {f"{which}-{number}" for which in ("one", "two") for number in range(200)}
                await follower.shows(everything)
                assert await names(store) == everything

    run(main, folder)


def test_another_process_sees_a_change_within_100_ms(folder: Folder) -> None:
    body = """
        async def main():
            store = new_store()
            await store.open()
            for number in range(20):
                await asyncio.sleep(0.037)
                print(f"put {number} {time.monotonic()}", flush=True)
                await store.put(publish(f"{number}"))
            await renewing(store, ())

        asyncio.run(main())
    """

    async def main(folder: Folder) -> None:
        store = await folder.open()
        async with following(store) as follower:
            with folder.child(body) as child:
                await follower.shows({f"{number}" for number in range(20)}, 10.0)
                lines = [line.split() for line in child.output.splitlines() if line.startswith("put ")]
        late = sorted(follower.seen[name] - float(when) for _, name, when in lines)
        show(f"seen by another process: median {1000 * late[10]:.1f} ms, worst {1000 * late[-1]:.1f} ms")
        assert late[0] < 0.1

    run(main, folder)


def test_a_process_that_only_watches_idles(folder: Folder) -> None:
    body = """
        async def main():
            store = new_store()
            await store.open()
            await store.put(publish("a"))
            watches = [store.watch(Bucket(("services", f"s{number}"))) for number in range(50)]
            for watch in watches:
                await anext(watch)
            begun = time.process_time()
            for _ in range(4):
                await asyncio.sleep(1)
                await store.renew()
            print(f"idle {(time.process_time() - begun) / 4:.5f}", flush=True)
            for watch in watches:
                await watch.aclose()
            await store.close()

        asyncio.run(main())
    """
    with folder.publisher("b"), folder.child(body) as child:
        share = float(child.expect("idle").split()[1])
    show(f"idle: {100 * share:.2f} % of a core")
    assert share < 0.05


async def _renew(store: LocalStore) -> None:
    while True:
        with contextlib.suppress(RegistryError):
            await store.renew()
        await asyncio.sleep(0.1)


def _lock_files(folder: Folder) -> list[Path]:
    owners = folder.path.with_name("registry.db.owners")
    return [path for path in owners.iterdir() if path.name != "opening"]


# Forks.

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
    return [path for path in _lock_files(folder) if path.name != store._opening.session._owner]


# Files.


def test_a_file_that_is_no_database_is_refused_and_kept(folder: Folder) -> None:
    for content in (b"hello, this is no database\n" * 200, b"SQLite format 3\0" + b"\x7f" * 5000):
        folder.path.write_bytes(content)

        async def main(folder: Folder) -> None:
            with pytest.raises(CorruptStore, match=r"registry\.db.*[Mm]ove it away"):
                await folder.new().open()

        run(main, folder)
        assert folder.path.read_bytes() == content


def test_a_truncated_file_is_refused_and_kept(folder: Folder) -> None:
    async def fill(folder: Folder) -> None:
        store = await folder.open()
        await put(store, *(record(f"{number}", b"x" * 200, owned=False) for number in range(500)))

    run(fill, folder)
    content = folder.path.read_bytes()
    for size in (len(content) // 2, len(content) - 5000):
        folder.path.write_bytes(content[:size])

        async def main(folder: Folder) -> None:
            with pytest.raises(CorruptStore, match=r"registry\.db"):
                await folder.new().open()

        run(main, folder)
        assert folder.path.read_bytes() == content[:size]


def test_damage_under_a_live_store_is_told(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, *(record(f"{number}", b"x" * 500, owned=False) for number in range(2000)))
        async with following(store) as follower:
            await eventually_async(lambda: follower.messages)
            folder.raw("PRAGMA wal_checkpoint(TRUNCATE)")
            folder.raw("PRAGMA user_version = 1")
            os.truncate(folder.path, 8192)

            async def told() -> bool:
                try:
                    await store.renew()
                    await store.read(HERE)
                except CorruptStore:
                    return True
                return False

            await eventually_async(told, 5.0, "damage is told")

    run(main, folder)


def test_a_database_of_another_program_is_refused(folder: Folder) -> None:
    folder.raw("CREATE TABLE customers (name)")
    before = folder.path.read_bytes()

    async def main(folder: Folder) -> None:
        with pytest.raises(CorruptStore, match="another program"):
            await folder.new().open()

    run(main, folder)
    assert folder.path.read_bytes() == before


def test_a_newer_format_is_refused(folder: Folder) -> None:
    async def make(folder: Folder) -> None:
        await folder.open()

    run(make, folder)
    folder.raw("PRAGMA user_version = 99")

    async def main(folder: Folder) -> None:
        with pytest.raises(Unsupported, match="format 99"):
            await folder.new().open()

    run(main, folder)


def test_the_file_and_its_folders_are_private(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new" / "deep")

    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("a"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.parent.iterdir()}
        assert modes.pop("registry.db.owners") == 0o700
        assert set(modes) >= {"registry.db", "registry.db-wal"}
        assert set(modes.values()) == {0o600}
        assert {stat.S_IMODE(path.stat().st_mode) for path in _lock_files(folder)} == {0o600}
        for made in (folder.path.parent, folder.path.parent.parent):
            assert stat.S_IMODE(made.stat().st_mode) == 0o700

    former = os.umask(0)
    try:
        run(main, folder)
    finally:
        os.umask(former)


def test_the_default_file_is_in_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    async def opened_at(store: LocalStore) -> Path:
        await store.open()
        await store.close()
        return store._place.path

    store = LocalStore(parse_target("local://", BACKEND), SystemClock())
    assert asyncio.run(opened_at(store)) == tmp_path / "state" / "sofa-registry" / "registry.db"
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    store = LocalStore(parse_target("local://", BACKEND), SystemClock())
    assert asyncio.run(opened_at(store)) == tmp_path / "home/.local/state/sofa-registry/registry.db"


def test_a_home_that_cannot_be_written_is_an_error_that_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.write_text("not a folder")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    store = LocalStore(parse_target("local://", BACKEND), SystemClock())
    with pytest.raises(RegistryError, match="home"):
        asyncio.run(store.open())
    if os.geteuid() != 0:
        home.unlink()
        home.mkdir(0o500)
        with pytest.raises(Denied, match="local:///path"):
            asyncio.run(store.open())


def test_a_relative_path_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore(parse_target("local://some/re%20gistry.db", BACKEND), SystemClock())

    async def main() -> None:
        await store.open()
        await store.close()

    asyncio.run(main())
    assert (tmp_path / "some" / "re gistry.db").is_file()


@pytest.mark.parametrize("url", ("local:///tmp/", "local:///", "local://user@relative/x.db", "local:///a%00b"))
def test_urls_that_name_no_file_are_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        parse_target(url, BACKEND)


def test_what_cannot_be_trusted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    planted = shared / "registry.db"
    planted.touch()
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with pytest.raises(Denied, match="another user"):
        Place(str(planted)).prepare()
    planted.unlink()
    (shared / "registry.db-wal").touch()
    with pytest.raises(Denied, match=r"registry\.db-wal"):
        Place(str(planted)).prepare()


def test_lock_files_are_not_made_through_a_link(folder: Folder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.path.with_name("registry.db.owners").symlink_to(elsewhere)

    async def main(folder: Folder) -> None:
        with pytest.raises(Denied, match="not a folder"):
            await folder.new().open()

    run(main, folder)
    assert list(elsewhere.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_denied(folder: Folder) -> None:
    folder.path.mkdir()

    async def main(folder: Folder) -> None:
        with pytest.raises(Denied, match="is a folder"):
            await folder.new().open()

    run(main, folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody without rights")
def test_missing_permission_is_denied_with_the_path(tmp_path: Path) -> None:
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    program = """
        import os
        # Somebody without rights may not be able to read the modules of this Python.
        store = new_store()
        os.setuid(65534)
        async def main():
            try:
                await store.open()
            except RegistryError as error:
                print("result", type(error).__name__, error)
        asyncio.run(main())
    """
    readable = tmp_path / "readable.db"
    readable.touch(0o644)
    for path in (tmp_path / "new.db", readable, tmp_path / "no" / "folder.db"):
        folder = Folder(tmp_path)
        folder.path = path
        with folder.child(program) as child:
            line = child.expect("result")
        assert line.startswith("result Denied"), line
        assert str(tmp_path) in line


# The file goes away while it is in use.


@pytest.mark.parametrize("how", ("deleted", "all deleted", "replaced"))
def test_a_file_that_vanishes_is_noticed_and_filled_again(folder: Folder, how: str) -> None:
    async def main(folder: Folder) -> None:
        store, other = await folder.open(), await folder.open()
        await put(store, record("a"))
        await put(other, record("b"))
        before = await store.read(HERE)
        assert before is not None
        backup = folder.path.with_name("backup")
        copy = sqlite3.connect(backup)
        source = sqlite3.connect(folder.path)
        source.backup(copy)
        source.close()
        copy.close()
        follower = Follower(store)
        await follower.shows({"a", "b"})
        _take_away(folder, how, backup)
        begun = time.monotonic()
        await eventually_async(follower.task.done, 3.0, "a watch of a file that is gone is cut")
        show(f"noticed after {1000 * (time.monotonic() - begun):.0f} ms")
        assert isinstance(follower.task.exception(), Unavailable)
        with pytest.raises(Unavailable, match="deleted or replaced"):
            await store.put([record("c")])
        with pytest.raises(Unavailable):
            await store.renew()
        assert await store.renew() == {key("a")}
        await put(store, record("a"))
        assert not await store.renew()
        await other.open() if how == "replaced" else None
        assert await _until_renewed(other) == {key("b")}
        await put(other, record("b"))
        after = await store.read(HERE)
        assert after is not None
        assert {one.key.name for one in after.records} == {"a", "b"}
        assert after.revision.epoch != before.revision.epoch
        async with following(store) as again:
            await again.shows({"a", "b"})

    run(main, folder)


async def _until_renewed(store: LocalStore) -> set[RecordKey]:
    async with asyncio.timeout(3):
        while True:
            with contextlib.suppress(Unavailable):
                return set(await store.renew())


def _take_away(folder: Folder, how: str, backup: Path) -> None:
    if how == "replaced":
        backup.replace(folder.path)
        return
    folder.path.unlink()
    if how == "all deleted":
        for beside in ("-wal", "-shm"):
            folder.path.with_name(f"registry.db{beside}").unlink()
        shutil.rmtree(folder.path.with_name("registry.db.owners"))


def test_records_deleted_by_another_program_are_missed(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("a"), record("b"), record("c"))
        async with following(store) as follower:
            await follower.shows({"a", "b", "c"})
            folder.raw("DELETE FROM records WHERE name = 'a'")
            await follower.shows({"b", "c"})
            assert await store.renew() == {key("a")}
            folder.raw("UPDATE records SET owner = 'somebody' WHERE name = 'b'")
            assert await store.renew() == {key("a"), key("b")}
            folder.raw("DELETE FROM records")
            folder.raw("DELETE FROM changes")
            assert await store.renew() == {key("a"), key("b"), key("c")}
            await follower.shows(set())

    run(main, folder)


def test_an_owner_that_others_took_for_dead_comes_back(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store, other = await folder.open(), await folder.open()
        await put(store, record("a"), record("b"))
        folder.raw("DELETE FROM owners")
        await put(store, record("a"))
        assert await store.renew() == {key("b")}
        assert await names(store) == {"a"}
        assert not await other.renew()
        assert await names(other) == {"a"}

    run(main, folder)


def test_records_without_an_owner_are_removed_when_a_store_opens(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("a"), record("b", owned=False))
        folder.raw("UPDATE records SET owner = 'nobody' WHERE name = 'a'")
        second = await folder.open()
        assert await names(second) == {"b"}

    run(main, folder)


def test_a_lock_file_that_is_deleted_costs_no_registration_for_long(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        async with following(store) as follower:
            with folder.publisher("a") as child:
                await follower.shows({"a"})
                shutil.rmtree(folder.path.with_name("registry.db.owners"))
                child.expect("again a")
                await follower.shows({"a"})

    run(main, folder)


def test_a_lock_file_that_nobody_holds_is_removed_in_time(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        owners = folder.path.with_name("registry.db.owners")
        for name, age in (("old", 3600), ("new", 0)):
            (owners / name).touch()
            os.utime(owners / name, (time.time() - age, time.time() - age))
        await folder.open()
        assert not (owners / "old").exists()
        assert (owners / "new").exists()
        assert not await store.renew()

    run(main, folder)


# Waiting and refusing.


def test_a_locked_database_is_unavailable_in_time(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open("?call_timeout=500ms")
        blocker = sqlite3.connect(folder.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="locked"):
            await store.put([record("a")])
        assert 0.3 < time.monotonic() - begun < 3
        assert await names(store) == set(), "reading goes on"
        waiting = asyncio.create_task(store.put([record("b")]))
        await asyncio.sleep(0.2)
        blocker.execute("ROLLBACK")
        assert isinstance((await waiting)[key("b")], str)
        blocker.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        await store.close()
        assert time.monotonic() - begun < 1.5
        blocker.close()
        second = await folder.open()
        assert await names(second) == set(), "what close could not remove goes with the lock"

    run(main, folder)


def test_a_full_disk_refuses_and_leaves_nothing_half_written(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("a"))
        database = store._opening.session._writer  # type: ignore[union-attr]
        database.plain(lambda one: one.execute("PRAGMA max_page_count = 30").fetchall())
        big = [record(f"{number}", b"x" * 50_000) for number in range(50)]
        answers = await store.put(big)
        assert {type(answer) for answer in answers.values()} == {Refused}
        assert "disk" in str(answers[key("0")])
        assert await names(store) == {"a"}
        database.plain(lambda one: one.execute("PRAGMA max_page_count = 100000").fetchall())
        await put(store, *big)
        assert len(await names(store)) == 51

    run(main, folder)


def test_names_that_would_break_a_path_are_refused(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        bad = [Record(("services", "a/b"), "x", b""), record("a/b"), record(""), record("\0"), record("\ud800")]
        answers = await store.put([*bad, record("good")])
        assert {name: type(answer) for name, answer in answers.items()} == {
            **{one.key: InvalidName for one in bad},
            key("good"): str,
        }
        refused = await store.delete([one.key for one in bad])
        assert {type(answer) for answer in refused.values()} == {InvalidName}

    run(main, folder)


def test_namespaces_do_not_see_each_other(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        one, two = await folder.open("?namespace=one"), await folder.open("?namespace=o%2Fne")
        plain = await folder.open()
        async with following(two, Bucket((), deep=True)) as follower:
            await put(one, record("a"))
            await put(plain, record("a"))
            await put(two, record("b"))
            await follower.shows({"b"})
        assert await names(one) == await names(plain) == {"a"}
        assert await names(two) == {"b"}
        assert await two.buckets(()) == await one.buckets(()) == ["services"]
        assert not await one.renew()

    run(main, folder)


# Watching.


def test_a_watch_beyond_the_log_gets_a_snapshot(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "KEPT_CHANGES", 100)
    monkeypatch.setattr(records_module, "_TRIM_EVERY", 10)

    async def main(folder: Folder) -> None:
        store, writer = await folder.open(), await folder.open()
        async with following(store) as follower:
            await put(writer, *(record(f"{number}") for number in range(1000)))
            await follower.shows({f"{number}" for number in range(1000)})
            assert isinstance(follower.messages[-1], StoreSnapshot)
        known = await store.read(HERE)
        assert known is not None
        assert await store.read(HERE, known.revision) is None
        await put(writer, Record(("other",), "x", b""))
        assert await store.read(HERE, known.revision) is None
        await put(writer, *(Record(("other",), "x", b"%d" % number) for number in range(1000)))
        assert await store.read(HERE, known.revision) is not None, "the log cannot tell any more"

    run(main, folder)


def test_ten_thousand_records(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store, reader = await folder.open(), await folder.open()
        many = [record(f"10.0.0.7:{number}", b"x" * 300) for number in range(10_000)]
        async with following(reader) as follower:
            await follower.shows(set())
            begun = time.perf_counter()
            await put(store, *many)
            written = time.perf_counter()
            snapshot = await reader.read(HERE)
            done = time.perf_counter()
            assert snapshot is not None
            assert len(snapshot.records) == 10_000
            await follower.shows({one.name for one in many})
            begun_one = time.perf_counter()
            await put(store, record("one more"))
            await eventually_async(lambda: "one more" in follower.names, interval=0.0005)
            seen_one = time.perf_counter()
            show(
                f"10 000 records: put {written - begun:.3f} s, read {1000 * (done - written):.0f} ms; "
                f"one change seen in the same process after {1000 * (seen_one - begun_one):.1f} ms"
            )
            assert isinstance(follower.messages[-1], StorePatch)
            assert len(follower.messages[-1].changed) == 1
        assert written - begun < 5
        assert done - written < 1

    run(main, folder)


# Threads and life-cycle.


def test_a_store_that_is_not_open_says_so(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = folder.new()
        with pytest.raises(Closed):
            await store.read(HERE)
        with pytest.raises(Closed):
            await anext(store.watch(HERE))

    run(main, folder)


def test_an_open_that_is_cancelled_leaves_no_owner(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        before = set(_threads())
        for delay in (0, 0.001, 0.003, 0.01):
            opening = asyncio.create_task(folder.new().open())
            await asyncio.sleep(delay)
            opening.cancel()
            await asyncio.wait((opening,))
            await folder.made.pop().close()
        store = await folder.open()
        await eventually_async(lambda: len(_lock_files(folder)) == 1, 3.0, "one owner is left")
        assert len(store._opening.session._writer.read(records_module.owners)) == 1  # type: ignore[union-attr]
        await store.close()
        await eventually_async(lambda: not set(_threads()) - before, 3.0, "no thread is left")

    run(main, folder)


def test_making_a_store_does_nothing(folder: Folder) -> None:
    folder.new()
    assert not folder.path.exists()
    LocalStore(Target(scheme="local", path=str(folder.path)), SystemClock())


def test_declaring_the_backend_imports_no_client_library() -> None:
    code = (
        "import sys; import sofa_registry_adapters.backends.local;"
        "sys.exit(any(name in sys.modules for name in ('sqlite3', 'asyncio', 'fcntl')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_windows_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(Unsupported, match="Windows"):
        Place("x.db").prepare()


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "sofa-registry" in thread.name]
