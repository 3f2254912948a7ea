"""What a config center knew is kept on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from scripted_center import KEY, Told, center, item, name, place

from sofa_registry_adapters import ConfigCenter
from sofa_registry_adapters.backends.memory import Space
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.events import ConfigSnapshotFailed
from sofa_registry_adapters.testing.faults import eventually

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name", "place"]


class TestDisk:
    def test_what_is_damaged_is_an_event_and_nothing_else(self, name: str, place: Space, tmp_path: Path) -> None:
        with center(name, snapshot=str(tmp_path)) as config:
            config.publish(KEY, "1")
            config.get(KEY)
        (path,) = tmp_path.iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        path.write_bytes(path.read_bytes()[:-5])
        place.partition()
        failed: list[ConfigSnapshotFailed] = []
        with center(name, snapshot=str(tmp_path)) as config:
            config.events.on(ConfigSnapshotFailed, failed.append)
            with pytest.raises(Unavailable):
                config.get(KEY, timeout=0.4)
            with pytest.raises(Unavailable):
                config.add_listener(KEY, print, timeout=1.0)
            assert {str(one.key) for one in failed} == {str(KEY)}
            assert "damaged" in failed[0].reason

    def test_what_the_center_lost_stays_on_disk(self, name: str, place: Space, tmp_path: Path) -> None:
        with center(name, snapshot=str(tmp_path)) as config:
            config.publish(KEY, "1")
            config.add_listener(KEY, print)
            eventually(lambda: list(tmp_path.iterdir()))
            place.wipe()
            assert config.get(KEY) is None
        place.partition()
        with center(name, snapshot=str(tmp_path)) as config:
            found = config.get(KEY)
            assert found is not None
            assert (found.content, found.stale) == ("1", True)

    def test_a_late_center_wins_over_the_disk(self, name: str, place: Space, tmp_path: Path) -> None:
        with center(name, snapshot=str(tmp_path)) as config:
            config.publish(KEY, "1")
            config.get(KEY)
        place.partition()
        told = Told()
        with center(name, snapshot=str(tmp_path)) as config:
            config.add_listener(KEY, told)
            assert told[0].stale
            assert told[0].item == msgspec.structs.replace(told[0].item, stale=True, content="1")  # type: ignore[type-var]
            place.heal()
            eventually(lambda: not (config.get(KEY) or item("")).stale)
            assert told.contents == ["1"], "it is the same value"
            config.publish(KEY, "2")
            eventually(lambda: told.contents == ["1", "2"])
            assert told[1].previous == told[0].item

    def test_a_center_that_is_only_slow_is_waited_for(self, name: str, place: Space, tmp_path: Path) -> None:
        with center(name, snapshot=str(tmp_path)) as config:
            config.publish(KEY, "1")
            config.get(KEY)
            config.publish(KEY, "2")
        place.slow(0.5)
        with center(name, snapshot=str(tmp_path)) as config:
            found = config.get(KEY)
            assert found is not None
            assert (found.content, found.stale) == ("2", False)

    def test_off_is_off(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        url = f"local://{tmp_path}/config.db"
        with ConfigCenter(url, options={"snapshot": "off"}) as config:
            config.publish(KEY, "1")
            config.add_listener(KEY, print)
            config.get(KEY)
        assert not (tmp_path / "cache").exists()
        with ConfigCenter(url) as config:
            config.get(KEY)
        assert len(list((tmp_path / "cache" / "sofa-registry").iterdir())) == 1

    def test_keys_and_groups_are_not_mixed_up(self, name: str, place: Space, tmp_path: Path) -> None:
        pairs = (("a", "b/c"), ("a/b", "c"), ("c", "a/b"))
        with center(name, snapshot=str(tmp_path)) as config:
            for key, group in pairs:
                config.publish(key, f"{key} in {group}", group=group)
                config.get(key, group=group)
        place.partition()
        with center(name, snapshot=str(tmp_path)) as config:
            for key, group in pairs:
                found = config.get(key, group=group)
                assert found is not None
                assert found.text == f"{key} in {group}"
