"""The files of the local store: broken, truncated, of others, private, in places that cannot be trusted."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from local_folder import HERE, Folder, folder, following, lock_files, put, record, run

from sofa_registry_adapters.backends.local import BACKEND
from sofa_registry_adapters.backends.local.place import Place
from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.errors import CorruptStore, Denied, InvalidURL, RegistryError, Unsupported
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.faults import eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["folder"]


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
        assert {stat.S_IMODE(path.stat().st_mode) for path in lock_files(folder)} == {0o600}
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
