"""What a folder may do to a store: one file that is damaged, a folder that is gone, a disk that is full."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sofa_registry_file
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket, Record
from sofa_registry_adapters.testing.store_contract import parse_target

BUCKET = Bucket(("services", "echo"))
RECORD = Record(BUCKET.path, "one", b"1", owned=True)


def with_store(folder: Path, test: Callable[[sofa_registry_file.FileStore], Awaitable[None]]) -> None:
    async def run() -> None:
        target = parse_target(f"file://{folder}", sofa_registry_file.BACKEND)
        store = sofa_registry_file.FileStore(target, SystemClock())
        await store.open()
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(run())


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern))


@pytest.mark.parametrize(
    "content",
    (
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\x00", id="no text"),
        pytest.param(b'["nobody", {"bucket": 1}]', id="another shape"),
        pytest.param(b'["nobody", {"more": ' + b"[" * 100_000, id="deep"),
    ),
)
def test_a_damaged_file_costs_no_other(tmp_path: Path, content: bytes) -> None:
    async def test(store: sofa_registry_file.FileStore) -> None:
        await store.put([RECORD])
        [file] = files(tmp_path, "*.json")
        file.with_name("damaged.json").write_bytes(content)
        found = await store.read(BUCKET)
        assert found is not None
        assert [one.record for one in found.records] == [RECORD]
        # One's own, damaged, is written anew.
        file.write_bytes(content)
        assert await store.renew() == [RECORD.key]
        await store.put([RECORD])
        assert await store.renew() == []

    with_store(tmp_path, test)


def test_a_folder_that_is_gone_is_no_empty_list(tmp_path: Path) -> None:
    async def test(store: sofa_registry_file.FileStore) -> None:
        await store.put([RECORD])
        folder = files(tmp_path, "*.json")[0].parent
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(Unavailable, match="No such file or directory"):
            await store.read(BUCKET)
        (tmp_path / "elsewhere").rename(folder)
        found = await store.read(BUCKET)
        assert found is not None
        assert [one.record for one in found.records] == [RECORD]

    with_store(tmp_path, test)


def test_a_full_disk_keeps_no_halves_of_files(tmp_path: Path) -> None:
    async def test(store: sofa_registry_file.FileStore) -> None:
        await store.put([RECORD])
        before = files(tmp_path, "*")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            for _ in range(5):
                with pytest.raises(Unavailable, match="cannot be used"):
                    await store.put([RECORD])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert files(tmp_path, "*") == before

    with_store(tmp_path, test)
