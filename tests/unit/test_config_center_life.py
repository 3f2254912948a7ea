"""The life of a config center: where it is, what it says of itself, its losses and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_center import KEY, center, name, place

from sofa_registry_adapters import AsyncConfigCenter, ConfigCenter, Registry
from sofa_registry_adapters.backends.memory import Space
from sofa_registry_adapters.engine.reactor import REACTOR
from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable
from sofa_registry_adapters.testing.faults import eventually, eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name", "place"]


class TestLife:
    def test_the_url_comes_from_the_variable(self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SOFA_REGISTRY_URL", f"memory://{name}")
        assert str(ConfigCenter().target) == f"memory://{name}"
        monkeypatch.setenv("SOFA_CONFIG_URL", f"memory://{name}2")
        assert str(ConfigCenter().target) == f"memory://{name}2"
        assert str(Registry().target) == f"memory://{name}"

    def test_it_says_what_it_is(self, name: str) -> None:
        config = center(name)
        assert repr(config) == f"<ConfigCenter memory://{name}>"
        place = config.add_listener(KEY, print)
        assert repr(place) == "<ConfigSubscription DEFAULT_GROUP/pool.yaml>"
        config.close()
        assert repr(config) == f"<ConfigCenter memory://{name} closed>"
        assert repr(place) == "<ConfigSubscription DEFAULT_GROUP/pool.yaml closed>"
        with pytest.raises(Closed, match="the config center memory://"):
            config.get(KEY)

    def test_it_shares_the_engines_thread_and_leaves_none(self, name: str) -> None:
        with center(name) as config, Registry(f"memory://{name}") as registry:
            config.get(KEY)
            registry.services()
            assert config._opened().reactor is registry._opened().reactor
        eventually(lambda: not REACTOR._users)
        eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("sofa-registry")])

    def test_a_center_lost_and_back_is_said_once(
        self, name: str, place: Space, caplog: pytest.LogCaptureFixture
    ) -> None:
        with center(name) as config, caplog.at_level(logging.WARNING):
            config.get(KEY)
            place.partition()
            for _ in range(3):
                with pytest.raises(Unavailable):
                    config.get(KEY, timeout=0.3)
            eventually(lambda: "is lost, the last known good is served" in caplog.text)
            place.heal()
            eventually(lambda: "answers again" in caplog.text)
        assert [record.message.partition(" memory")[0] for record in caplog.records] == ["the config center"] * 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    def test_handles_of_the_parent_are_refused_in_a_child(self, name: str) -> None:
        with center(name) as config:
            watch = config.watch(KEY)
            child = os.fork()
            if not child:
                try:
                    watch.next(timeout=1.0)
                except Closed:
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    def test_a_cancelled_listener_leaves_nothing(self, name: str, place: Space) -> None:
        async def main() -> None:
            async with (
                AsyncConfigCenter(f"memory://{name}", options={"snapshot": "off"}) as config,
                asyncio.timeout(10),
            ):
                await config.get(KEY)
                place.slow(0.3)
                task = asyncio.create_task(config.add_listener(KEY, print))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                place.slow(0.0)
                mirrors = config._opened().engine._mirrors
                await eventually_async(lambda: not mirrors)

        asyncio.run(main())
        assert not place._feeds

    def test_errors_are_of_one_tree(self, name: str) -> None:
        verbs: tuple[Callable[[ConfigCenter], object], ...] = (
            lambda config: config.rollback("nothing"),
            lambda config: config.publish(KEY, "x", expected_revision="memory:1-0"),
            lambda config: config.get(KEY, timeout=-1),
        )
        with center(name) as config:
            for verb in verbs:
                with pytest.raises(RegistryError):
                    verb(config)
