"""What the local store loses while it is in use: its file, its records, its owner, its lock file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from local_folder import HERE, Folder, Follower, folder, following, key, names, put, record, run, show

from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.store import RecordKey
from sofa_registry_adapters.testing.faults import eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["folder"]


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
