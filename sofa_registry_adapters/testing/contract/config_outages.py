"""Promises about a config center that is away: the last good value stays, no call hangs, and a fault removes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sofa_registry_adapters.config import ConfigCenter
from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable, WrongThread
from sofa_registry_adapters.model.events import BackendLost, BackendRestored
from sofa_registry_adapters.testing.contract.breaking import Faults
from sofa_registry_adapters.testing.contract.centers import KEY, Center, Centers, ConfigRecorder
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.contract.kit import STEP, able, quietly, stays, takes
from sofa_registry_adapters.testing.contract.resources import leaves_nothing, on_the_engines_thread
from sofa_registry_adapters.testing.faults import eventually

SHORT = 0.3
"""The time-out of a verb that is expected to run into it, in seconds."""
OUTAGE = 2.0
ROUNDS = 50


class ConfigOutageContract:
    """``recovery_seconds``: how long after an outage a change is seen again."""

    recovery_seconds: ClassVar[float] = 2.0

    def test_70_restart(self, centers: Centers, faults: Faults | None) -> None:
        """A center that is killed and started again removes nothing; the value is stale meanwhile, and changes flow again."""
        broken = able(faults, "kill", "start")
        publisher, consumer = centers.open(), centers.open()
        publisher.publish(KEY, "before")
        recorder = consumer.recorder()
        lost, back = consumer.heard(BackendLost), consumer.heard(BackendRestored)
        broken.kill()
        try:
            eventually(lambda: _stale(consumer), STEP * 2, "what is followed is known, and stale")
            stays(lambda: recorder.contents == ["before"], OUTAGE, "the outage")
        finally:
            broken.start()
        _publishes(publisher, "after")
        eventually(lambda: recorder.content == "after", self.recovery_seconds + STEP, "the change")
        assert recorder.contents == ["before", "after"], "no false removal"
        item = consumer.get()
        assert item is not None
        assert not item.stale
        eventually(lambda: back, STEP, "its end is an event")
        assert len(lost) == len(back) == 1, "one event for an outage and one for its end"

    def test_71_wipe(self, centers: Centers, faults: Faults | None) -> None:
        """A center that loses everything removes nothing for those who follow; what is published then is told."""
        broken = able(faults, "wipe")
        publisher, consumer = centers.open(), centers.open()
        first = publisher.publish(KEY, "before")
        recorder = consumer.recorder()
        broken.wipe()
        eventually(lambda: quietly(lambda: publisher.get("other", timeout=SHORT)) is None, STEP * 2, "it answers again")
        stays(lambda: recorder.contents == ["before"], 1.0, "nobody removed it")
        second = _publishes(publisher, "after")
        assert second != first, "a revision does not come back with the data gone"
        eventually(lambda: recorder.contents == ["before", "after"], self.recovery_seconds + STEP, "the next value")

    def test_72_a_center_that_hangs(self, centers: Centers, faults: Faults | None) -> None:
        """While the center hangs every verb ends in its time-out; what is followed is served stale."""
        broken = able(faults, "pause", "resume")
        publisher, consumer, late = (centers.open(call_timeout=1.0) for _ in range(3))
        publisher.publish(KEY, "before")
        recorder = consumer.recorder()
        broken.pause()
        try:
            for center in (publisher, late):
                _all_verbs_end(center)
            with takes(SHORT * 1.1 + SHORT, "get of what is followed"):
                item = consumer.get(timeout=SHORT)
            assert item is not None
            assert (item.content, item.stale) == ("before", True)
        finally:
            broken.resume()
        _publishes(publisher, "after")
        eventually(lambda: recorder.contents == ["before", "after"], self.recovery_seconds + STEP, "the change")

    def test_72_a_center_that_is_down(self, centers: Centers, faults: Faults | None) -> None:
        """While the center is down every verb ends in its time-out with Unavailable, and names the center and the key."""
        broken = able(faults, "kill", "start")
        publisher, late = centers.open(), centers.open()
        publisher.publish("other", "x")
        broken.kill()
        try:
            for center in (publisher, late):
                _all_verbs_end(center)
            with pytest.raises(Unavailable) as caught:
                late.add_listener("the key", ConfigRecorder(), timeout=SHORT)
            assert "the key" in str(caught.value)
        finally:
            broken.start()
        _publishes(late, "after")

    def test_73_cut_connections(self, centers: Centers, faults: Faults | None) -> None:
        """Connections that are reset again and again cost no value and no removal, and bring no false one."""
        broken = able(faults, "cut")
        publisher, consumer = centers.open(), centers.open()
        _publishes(publisher, "0")
        recorder = consumer.recorder()
        for number in range(1, 11):
            broken.cut()
            _publishes(publisher, str(number))
            broken.cut()
        eventually(lambda: recorder.content == "10", self.recovery_seconds + STEP, "the last value")
        assert None not in recorder.contents
        broken.cut()
        eventually(lambda: quietly(publisher.remove) is not None, STEP * 2, "it is removed")
        eventually(lambda: recorder.content is None, self.recovery_seconds + STEP, "the removal is told")
        assert recorder.consistent

    def test_74_a_change_behind_a_black_hole(self, centers: Centers, faults: Faults | None) -> None:
        """What is swallowed by the network, and nobody is told of, is noticed and made up for."""
        broken = able(faults, "black_hole", "heal")
        publisher, consumer = centers.open(call_timeout=1.0), centers.open(call_timeout=1.0)
        publisher.publish(KEY, "before")
        recorder = consumer.recorder()
        broken.black_hole()
        try:
            eventually(lambda: _stale(consumer), STEP * 2, "it is noticed")
        finally:
            broken.heal()
        _publishes(publisher, "after")
        eventually(lambda: recorder.contents == ["before", "after"], STEP * 2, "the change")


class ConfigStartingContract:
    """Promises about starting without the center, and about ending."""

    def test_80_before_the_center_is_there(self, centers: Centers, faults: Faults | None) -> None:
        """add_listener raises Unavailable within its time-out; with required=False its first call comes later."""
        broken = able(faults, "kill", "start")
        broken.kill()
        try:
            consumer, refused, waiting = centers.open(), ConfigRecorder(), ConfigRecorder()
            with takes(SHORT, "add_listener"), pytest.raises(Unavailable):
                consumer.add_listener(KEY, refused, timeout=SHORT)
            with takes(SHORT, "add_listener"):
                consumer.add_listener(KEY, waiting, required=False, timeout=SHORT)
            assert not waiting.changes
        finally:
            broken.start()
        _publishes(centers.open(), "there")
        eventually(lambda: waiting.content == "there", STEP * 2, "the first call comes")
        assert not refused.changes, "what was refused stays so"

    def test_81_start_from_the_disk(self, centers: Centers, faults: Faults | None, tmp_path: Path) -> None:
        """Without the center the last known good comes from the disk, stale: of what was followed, and of what was read."""
        broken = able(faults, "kill", "start")
        publisher, folder = centers.open(), str(tmp_path / "snapshots")
        for key, content in (("followed", "one"), ("read", b"\x00two"), ("removed", "three")):
            publisher.publish(key, content if centers.capabilities.binary_config else str(content))
        values = {key: publisher.content(key) for key in ("followed", "read")}
        with centers.fresh(snapshot=folder) as consumer:
            for key in ("followed", "removed"):
                consumer.add_listener(key, ConfigRecorder())
            consumer.get("read")
            eventually(lambda: len(list(_files(tmp_path))) == 3, STEP, "all are saved")
            publisher.remove("removed")
            eventually(lambda: len(list(_files(tmp_path))) == 2, STEP, "what was removed is forgotten")
        assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "snapshots", *_files(tmp_path)))
        broken.kill()
        try:
            recorder, late = ConfigRecorder(), centers.open(snapshot=folder)
            with takes(1.5, "add_listener"):
                late.add_listener("followed", recorder)
            assert recorder.item is not None
            assert (recorder.content, recorder.item.stale) == (values["followed"], True)
            with takes(1.5, "get"):
                item = late.get("read")
            assert item is not None
            assert (item.content, item.stale) == (values["read"], True)
            for key in ("removed", "never seen"):
                with takes(SHORT * 2, "get"), pytest.raises(Unavailable):
                    late.get(key, timeout=SHORT)
            with pytest.raises(Unavailable):
                centers.open().get("read", timeout=SHORT)
        finally:
            broken.start()
        _publishes(late, "four", "followed")
        eventually(lambda: recorder.content == "four", STEP * 2, "it is in step again")
        assert recorder.item is not None
        assert not recorder.item.stale
        assert None not in recorder.contents

    @pytest.mark.parametrize("fault", ("none", "black hole"))
    def test_82_close(self, centers: Centers, face: FaceName, faults: Faults | None, fault: str) -> None:
        """Close ends within two seconds, twice is once, ends every loop, and verbs say Closed from then on."""
        broken = None if fault == "none" else able(faults, "black_hole", "heal")
        center = centers.open(face)
        center.publish(KEY, "x")
        following = center.watch().follow()
        if broken is not None:
            broken.black_hole()
        try:
            with takes(2.0, "close"):
                center.close()
            with takes(0.1, "close again"):
                center.close()
            assert following.ended.wait(STEP), "the loop ends"
        finally:
            if broken is not None:
                broken.heal()
        for verb in (center.get, center.remove, center.watch, lambda: center.publish(KEY, "y")):
            with pytest.raises(Closed):
                verb()

    def test_83_a_close_ends_what_waits(self, centers: Centers, faults: Faults | None) -> None:
        """Closing a center ends the verbs under way in it."""
        broken = able(faults, "pause", "resume")

        async def work() -> None:
            center = centers.coroutine()
            await center.get(KEY)
            broken.pause()
            try:
                task = asyncio.create_task(center.publish(KEY, "x", timeout=30.0))
                await asyncio.sleep(0.2)
                await center.aclose()
                with pytest.raises(RegistryError):
                    async with asyncio.timeout(STEP):
                        await task
            finally:
                broken.resume()

        asyncio.run(work())


class ConfigResourceContract:
    """Promises about what following and publishing cost."""

    def test_90_opening_and_closing(self, centers: Centers, face: FaceName) -> None:
        """Fifty centers opened, used and closed leave no thread and no open file."""

        def once() -> None:
            if face == "blocking":
                with centers.fresh() as config:
                    config.publish(KEY, "x")
                    config.add_listener(KEY, ConfigRecorder())
                return

            async def work() -> None:
                async with centers.coroutine() as config:
                    await config.publish(KEY, "x")
                    await config.add_listener(KEY, ConfigRecorder())

            asyncio.run(work())

        leaves_nothing(once, ROUNDS)

    def test_91_following(self, centers: Centers, face: FaceName) -> None:
        """Fifty listeners and watches that come and go leave no thread and no open file."""
        center, numbers = centers.open(face), iter(range(10**6))

        def once() -> None:
            key = f"key {next(numbers)}"
            place, watch = center.add_listener(key, ConfigRecorder()), center.watch(key)
            center.publish(key, "x")
            watch.until_change(lambda change: change.item is not None)
            watch.close()
            place.close()

        leaves_nothing(once, ROUNDS)

    def test_92_blocking_verbs_on_the_engines_thread(self, centers: Centers) -> None:
        """A blocking verb on the engine's own thread raises WrongThread instead of waiting for itself."""
        with centers.fresh() as config:
            config.publish(KEY, "x")
            verbs: dict[str, Callable[[], object]] = {
                "get": lambda: config.get(KEY),
                "publish": lambda: config.publish(KEY, "y"),
                "remove": lambda: config.remove(KEY),
                "add_listener": lambda: config.add_listener(KEY, ConfigRecorder()),
                "watch": lambda: config.watch(KEY),
                "keys": config.keys,
                "history": lambda: config.history(KEY),
                "rollback": lambda: config.rollback(KEY),
                "close": config.close,
            }
            for name, verb in verbs.items():
                assert isinstance(on_the_engines_thread(config, verb), WrongThread), name
            item = config.get(KEY)
            assert item is not None
            assert item.content == "x"

    def test_93_fork(self, centers: Centers) -> None:
        """A forked child opens its own center, and its end leaves the parent's listeners alive."""
        centers.needs_processes()
        child = centers.child("fork")
        child.expect("ready", 20.0)
        child.expect("child from the child" if centers.capabilities.survives_fork else "child ForkUnsupported")
        child.expect("child ended 0")
        child.expect("parent kept")
        assert child.wait() == 0, child.output
        assert "Traceback" not in child.output


def _stale(center: Center) -> bool:
    item = quietly(lambda: center.get(timeout=SHORT))
    return item is not None and item.stale


def _publishes(center: Center, content: str, key: str = KEY) -> str:
    """Publish as soon as the center can be reached."""
    revision: Any = eventually(
        lambda: quietly(lambda: center.publish(key, content, timeout=1.0)), STEP * 4, "it can be published"
    )
    return str(revision)


def _all_verbs_end(center: Center) -> None:
    config = center.center
    assert isinstance(config, ConfigCenter)
    verbs: dict[str, Callable[[], object]] = {
        "get": lambda: config.get("unknown", timeout=SHORT),
        "publish": lambda: config.publish("late", "x", timeout=SHORT),
        "remove": lambda: config.remove("late", timeout=SHORT),
        "add_listener": lambda: config.add_listener("late", ConfigRecorder(), timeout=SHORT),
        "watch": lambda: config.watch("late", timeout=SHORT),
        "history": lambda: config.history("late", timeout=SHORT),
        "rollback": lambda: config.rollback("late", timeout=SHORT),
        "keys": lambda: config.keys(timeout=SHORT),
    }
    for name, verb in verbs.items():
        with takes(SHORT * 1.1, name), pytest.raises(Unavailable):
            verb()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
