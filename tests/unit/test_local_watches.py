"""The watches of the local store: beyond its log, and on many records."""

from __future__ import annotations

import time

import pytest
from local_folder import HERE, Folder, folder, following, put, record, run, show

from sofa_registry_adapters.backends.local import records as records_module
from sofa_registry_adapters.spi.store import Record, StorePatch, StoreSnapshot
from sofa_registry_adapters.testing.faults import eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["folder"]


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
