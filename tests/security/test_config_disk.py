"""The snapshots of configuration values, which may be secrets: as private as those of services, in every way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sofa_registry_adapters import ConfigCenter, ConfigItem, ConfigKey
from sofa_registry_adapters.engine.config_disk import ConfigDisk
from sofa_registry_adapters.testing.faults import eventually

KEY = ConfigKey("db/password")
SECRET = "c4n4ryB1rd"


def item(content: str = SECRET) -> ConfigItem:
    return ConfigItem(key=KEY.key, group=KEY.group, content=content, revision="1-0000000000000000")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def disk(folder: Path) -> ConfigDisk:
    return ConfigDisk(folder, "test")


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_only_the_user_may_look(disk: ConfigDisk, folder: Path) -> None:
    old = os.umask(0)
    try:
        disk.save(item(), 1)
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert only_file(folder).stat().st_mode & 0o777 == 0o600
    assert "password" not in only_file(folder).name


def test_a_symbolic_link_is_not_followed(disk: ConfigDisk, folder: Path, tmp_path: Path) -> None:
    disk.save(item(), 1)
    path, target = only_file(folder), tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        disk.load(KEY)
    before = target.read_bytes()
    disk.save(item("another"), 2)
    assert target.read_bytes() == before
    assert not path.is_symlink()
    path.unlink()
    path.symlink_to(target)
    disk.forget(KEY)
    assert target.read_bytes() == before, "the link is removed, and not what it leads to"


def test_a_folder_that_is_a_link_is_refused(disk: ConfigDisk, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(PermissionError):
        disk.save(item(), 1)
    assert not list((tmp_path / "theirs").iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give a file away")
def test_a_foreign_file_is_not_read(disk: ConfigDisk, folder: Path) -> None:
    disk.save(item(), 1)
    os.chown(only_file(folder), 65534, 65534)
    with pytest.raises(PermissionError, match="another user"):
        disk.load(KEY)


def test_a_center_writes_so_and_off_keeps_values_off_the_disk(folder: Path, tmp_path: Path) -> None:
    with ConfigCenter(f"local://{tmp_path}/a.db", options={"snapshot": str(folder)}) as center:
        center.publish("password", SECRET)
        center.add_listener("password", lambda _: None)
        eventually(lambda: folder.exists() and any(SECRET in one.read_text() for one in folder.iterdir()), 5.0, "saved")
        assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o600}
    (tmp_path / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
        with ConfigCenter(f"local://{tmp_path}/a.db", options={"snapshot": "off"}) as center:
            center.add_listener("password", lambda _: None)
            assert center.get("password") is not None
    assert not list((tmp_path / "empty").iterdir())
