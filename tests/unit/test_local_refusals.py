"""What the local store refuses, in time: a locked database, a full disk, names that would break a path."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest
from local_folder import Folder, folder, following, key, names, put, record, run

from sofa_registry_adapters.errors import InvalidName, Refused, Unavailable
from sofa_registry_adapters.spi.store import Bucket, Record

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["folder"]


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
