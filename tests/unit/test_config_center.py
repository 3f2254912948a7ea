"""The engine of a config center: what is followed stays in step, a fault removes nothing, and what is known is kept."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from sofa_registry_adapters import (
    ABSENT,
    Absent,
    AsyncConfigCenter,
    ConfigCenter,
    ConfigChange,
    ConfigItem,
    ConfigKey,
    Registry,
)
from sofa_registry_adapters.backends.memory import Space, space
from sofa_registry_adapters.engine.config_core import Revisions
from sofa_registry_adapters.engine.reactor import REACTOR
from sofa_registry_adapters.errors import (
    Closed,
    Conflict,
    CorruptRecord,
    Denied,
    InvalidArgument,
    RegistryError,
    Unavailable,
    Unsupported,
)
from sofa_registry_adapters.events import (
    ConfigChanged,
    ConfigLooped,
    ConfigRejected,
    ConfigSnapshotFailed,
    Event,
    ListenerFailed,
)
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.config import ConfigBackend, ConfigDraft
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Target
from sofa_registry_adapters.spi.registry import Rejected
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import eventually, eventually_async

KEY = ConfigKey("pool.yaml")
Step = ConfigItem | Rejected | Absent | Exception | None


def item(content: str, revision: str = "") -> ConfigItem:
    return ConfigItem(key=KEY.key, content=content, revision=revision or content)


class Scripted(ConfigBackend):
    """A product with a configuration service of its own, whose watches and reads a test feeds, from any thread."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self.steps: list[Step] = []
        self.found: Step = None
        self.watches = 0
        self.reads = 0
        self.opening: Exception | None = None
        self.expected: list[str | Absent | None] = []
        self.drafts: list[ConfigDraft] = []
        self.conflict: Conflict | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self) -> None:
        if self.opening is not None:
            raise self.opening

    async def close(self) -> None: ...
    async def renew(self) -> None: ...

    async def get(self, key: ConfigKey) -> ConfigItem | Absent | None:
        self.reads += 1
        if isinstance(self.found, Exception):
            raise self.found
        if isinstance(self.found, Rejected):
            raise CorruptRecord(self.found.reason)
        return self.found

    async def publish(self, key: ConfigKey, draft: ConfigDraft, expected: str | Absent | None) -> str:
        self.drafts.append(draft)
        self.expected.append(expected)
        if self.conflict is not None:
            raise self.conflict
        return "fresh"

    async def remove(self, key: ConfigKey, expected: str | None, author: str = "") -> bool:
        self.expected.append(expected)
        return True

    async def keys(self, group: str) -> Sequence[str]:
        return [group]

    async def history(self, key: ConfigKey, limit: int) -> Sequence[ConfigItem]:
        return [item("c"), item("b"), item("a")][:limit]

    async def watch(self, key: ConfigKey) -> AsyncIterator[ConfigItem | Rejected | Absent | None]:
        self.watches += 1
        at = 0
        if isinstance(self.found, Exception):
            raise self.found
        self.steps.clear()
        yield self.found
        while True:
            while at < len(self.steps):
                step = self.steps[at]
                at += 1
                if isinstance(step, Exception):
                    raise step
                yield step
            await asyncio.sleep(0.002)


class Product:
    """A plug-in with one scripted product; ``backend`` is the one that is open."""

    def __init__(self, **capabilities: bool | int) -> None:
        self.capabilities = Capabilities(**capabilities)  # type: ignore[arg-type]
        self.backend = Scripted(self.capabilities)

    @hookimpl
    def sofa_registry_backends(self) -> Sequence[BackendType]:
        def make(target: Target, clock: Clock) -> object:
            return self.backend

        return [
            BackendType(
                schemes=("scripted", "alias"),
                summary="scripted",
                grammar="scripted://",
                considerations="",
                capabilities=self.capabilities,
                load=lambda: make,
                load_config=lambda: make,
                store=False,
                needs_host=False,
            )
        ]

    def center(self, clock: Clock | None = None, **options: str | float) -> ConfigCenter:
        return ConfigCenter("alias://", plugins=[self], options={"snapshot": "off", **options}, clock=clock)


class Told(list[ConfigChange]):
    """A listener that keeps what it was told."""

    def __call__(self, change: ConfigChange) -> None:
        self.append(change)

    @property
    def contents(self) -> list[str | bytes | None]:
        return [None if change.item is None else change.item.content for change in self]


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def place(name: str) -> Space:
    return space(name)


def center(name: str, **options: str | float) -> ConfigCenter:
    return ConfigCenter(f"memory://{name}", options={"snapshot": "off", **options})


class TestFollowing:
    def test_many_listeners_are_one_watch(self) -> None:
        product = Product()
        product.backend.found = item("1")
        with product.center() as config:
            told = [Told() for _ in range(5)]
            for one in told:
                config.add_listener(KEY, one)
            config.watch(KEY)
            product.backend.steps.append(item("2"))
            for one in told:
                eventually(lambda: one.contents == ["1", "2"])  # noqa: B023  called at once
            assert product.backend.watches == 1

    def test_a_lost_event_is_found_by_comparing(self) -> None:
        product, told = Product(), Told()
        product.backend.found = item("1")
        with product.center(reconcile=0.1) as config:
            config.add_listener(KEY, told)
            eventually(lambda: product.backend.reads >= 3)
            assert product.backend.watches == 1, "what is equal is left alone"
            product.backend.found = item("2")
            eventually(lambda: told.contents == ["1", "2"])
            assert product.backend.watches == 2
            product.backend.found = None
            eventually(lambda: told.contents == ["1", "2", None])
            reads = product.backend.reads
            product.backend.found = Unavailable("a read that fails proves nothing")
            eventually(lambda: product.backend.reads > reads + 1)
            assert told.contents == ["1", "2", None]

    def test_without_push_it_is_polled(self) -> None:
        product, told = Product(push=False), Told()
        product.backend.found = item("1")
        with product.center(poll=0.05) as config:
            rejected: list[Event] = []
            config.events.on(ConfigRejected, rejected.append)
            config.add_listener(KEY, told)
            steps: tuple[Step, ...] = (item("2"), Unavailable("cut"), Rejected("x", "spoiled"), ABSENT, item("3"), None)
            for found in steps:
                product.backend.found = found
                reads = product.backend.reads
                eventually(lambda: product.backend.reads > reads + 1)  # noqa: B023  called at once
            eventually(lambda: told.contents[-1] is None)
            assert told.contents == ["1", "2", "3", None]
            assert len(rejected) == 2
            assert product.backend.watches == 0

    @pytest.mark.parametrize("fault", (Unavailable("cut"), Denied("no more"), RuntimeError("a bug")))
    def test_a_fault_removes_nothing(self, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
        product, told = Product(), Told()
        product.backend.found = item("1")
        with product.center() as config:
            config.add_listener(KEY, told)
            product.backend.found = fault
            product.backend.steps.append(fault)
            eventually(lambda: product.backend.watches > 3)
            assert told.contents == ["1"]
            product.backend.found = item("1")
            watches = product.backend.watches
            eventually(lambda: product.backend.watches > watches)
            product.backend.steps.append(item("2"))
            eventually(lambda: told.contents == ["1", "2"])
        defects = [record for record in caplog.records if "is a defect" in record.message]
        assert bool(defects) is isinstance(fault, RuntimeError)

    def test_what_is_lost_is_kept_and_what_is_removed_is_not(self) -> None:
        product, told = Product(), Told()
        product.backend.found = item("1")
        with product.center() as config:
            rejected: list[ConfigRejected] = []
            config.events.on(ConfigRejected, rejected.append)
            config.add_listener(KEY, told)
            product.backend.steps += [ABSENT, ABSENT]
            eventually(lambda: rejected)
            assert "lost" in rejected[0].reason
            mirror = config._opened().engine._mirrors.find(KEY)
            assert mirror is not None
            shown = mirror.source.shown()
            assert shown is not None
            assert shown.stale
            product.backend.steps.append(None)
            eventually(lambda: told.contents == ["1", None])
            product.backend.steps += [ABSENT, item("2")]
            eventually(lambda: told.contents == ["1", None, "2"])
            assert len(rejected) == 1, "the same is said once"

    def test_a_first_value_that_is_spoiled_is_an_error_and_then_mended(self) -> None:
        product, late = Product(), Told()
        product.backend.found = Rejected("x", "spoiled")
        with product.center() as config:
            with pytest.raises(CorruptRecord, match="spoiled"):
                config.add_listener(KEY, print, timeout=3)
            with pytest.raises(CorruptRecord, match="spoiled"):
                config.get(KEY)
            eventually(lambda: not config._opened().engine._mirrors)
            watches = product.backend.watches
            config.add_listener(KEY, late, required=False, timeout=0.1)
            eventually(lambda: product.backend.watches > watches)
            product.backend.steps.append(item("1"))
            eventually(lambda: late.contents == ["1"])

    def test_staleness_alone_calls_nobody(self, name: str, place: Space) -> None:
        with center(name) as config:
            config.publish(KEY, "1")
            told = Told()
            config.add_listener(KEY, told)
            for _ in range(2):
                place.partition()
                eventually(lambda: (config.get(KEY, timeout=0.2) or item("")).stale)
                place.heal()
                eventually(lambda: not (config.get(KEY) or item("")).stale)
            assert told.contents == ["1"]

    def test_the_last_listener_ends_the_watch(self, name: str, place: Space) -> None:
        with center(name) as config:
            places = [config.add_listener(KEY, print) for _ in range(2)]
            watch = config.watch(KEY)
            assert len(place._feeds) == 1
            places[0].close()
            watch.close()
            assert len(place._feeds) == 1
            places[1].close()
            eventually(lambda: not place._feeds)
            eventually(lambda: not config._opened().engine._mirrors)


class TestVerbs:
    def test_revisions_have_the_product_in_front_and_the_backend_sees_them_bare(self) -> None:
        product = Product()
        product.backend.found = item("1")
        with product.center() as config:
            assert config.publish(KEY, "x") == "scripted:fresh"
            config.publish(KEY, "x", expected_revision=ABSENT)
            config.publish(KEY, "x", expected_revision="scripted:1")
            config.remove(KEY, expected_revision="scripted:2")
            assert product.backend.expected == [None, ABSENT, "1", "2"]
            assert config.get(KEY) == item("1", "scripted:1")
            assert [one.revision for one in config.history(KEY, limit=2)] == ["scripted:c", "scripted:b"]
            product.backend.conflict = Conflict("it is at 7, not at 1", expected="1", present="7")
            with pytest.raises(Conflict) as caught:
                config.publish(KEY, "x", expected_revision="scripted:1")
            assert (caught.value.expected, caught.value.present) == ("scripted:1", "scripted:7")
            for wrong in ("redis:1", "1", "", "scripted:"):
                with pytest.raises(InvalidArgument, match="no revision of this config center"):
                    config.publish(KEY, "x", expected_revision=wrong)

    def test_a_conflict_keeps_its_words(self) -> None:
        error = Revisions("redis").conflict(
            Conflict("k is at 3-ab, and was expected at 2-ab", expected="2-ab", present="3-ab")
        )
        assert str(error) == "k is at redis:3-ab, and was expected at redis:2-ab"
        assert (Revisions("redis").conflict(Conflict("absent", expected="2-ab")).present) is None

    def test_a_rollback_replaces_what_was_looked_at(self) -> None:
        product = Product()
        product.backend.found = item("c")
        with product.center() as config:
            config.rollback(KEY)
            assert (product.backend.drafts[-1].content, product.backend.expected[-1]) == ("b", "c")
            config.rollback(KEY, "scripted:a")
            assert (product.backend.drafts[-1].content, product.backend.expected[-1]) == ("a", None)
            config.rollback(KEY, "scripted:a", expected_revision="scripted:c")
            assert product.backend.expected[-1] == "c"
            product.backend.found = None
            config.rollback(KEY)
            assert (product.backend.drafts[-1].content, product.backend.expected[-1]) == ("c", ABSENT)

    def test_who_publishes_is_said(self) -> None:
        product = Product()
        with product.center() as config:
            config.publish(KEY, "x")
        author = product.backend.drafts[0].author
        assert author.endswith(f":{os.getpid()}")
        assert "@" in author

    def test_a_name_that_is_no_text_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOGNAME", "\udcff\udcfe")
        product = Product()
        with product.center() as config:
            config.publish(KEY, "x")
        assert product.backend.drafts[0].author.startswith("??@")

    def test_a_listener_that_fails_is_named(self, name: str) -> None:
        class Callable:
            def __repr__(self) -> str:
                return "<a callable>"

            def __call__(self, change: ConfigChange) -> None:
                raise ValueError

        failed: list[ListenerFailed] = []
        with center(name) as config:
            config.events.on(ListenerFailed, failed.append)
            config.add_listener(KEY, Callable())
            config.add_listener(KEY, [].index)
            eventually(lambda: len(failed) == 2)
        assert [one.listener for one in failed] == ["<a callable>", "list.index"]

    def test_text_only(self) -> None:
        product = Product(binary_config=False, max_config_bytes=5)
        with product.center() as config:
            for content in (b"x", b"\xff"):
                with pytest.raises(InvalidArgument, match="keeps text only"):
                    config.publish(KEY, content)
            with pytest.raises(InvalidArgument, match="6 bytes, and alias:// takes 5 at most"):
                config.publish(KEY, "123456")
            assert not product.backend.drafts
            assert config.capabilities.max_config_bytes == 5

    def test_no_content_in_a_repr(self) -> None:
        secret = item("s3cret")
        shown = (
            secret,
            ConfigChange(KEY, secret, secret),
            ConfigChanged(ConfigChange(KEY, secret)),
            ConfigDraft("s3cret"),
        )
        assert all("s3cret" not in repr(one).replace("s3cret 6", "").replace("6 bytes s3cret", "") for one in shown)
        assert "6 bytes" in repr(secret)

    def test_a_registry_without_configuration_says_so(self) -> None:
        class Without:
            @hookimpl
            def sofa_registry_backends(self) -> Sequence[BackendType]:
                return [msgspec.structs.replace(Product().sofa_registry_backends()[0], load_config=None)]

        with pytest.raises(Unsupported, match="name another config center"):
            ConfigCenter("scripted://", plugins=[Without()]).open()

    def test_a_registry_and_a_center_share_a_place_and_no_names(self, name: str) -> None:
        with center(name) as config, Registry(f"memory://{name}") as registry:
            config.publish("com.acme.Hello", "x", group="services")
            registry.publish("com.acme.Hello", "h:1")
            assert [str(one) for one in registry.services()] == ["com.acme.Hello"]
            assert config.keys(group="services") == ["com.acme.Hello"]
            assert len(registry.lookup("com.acme.Hello")) == 1

    def test_what_is_refused_at_opening_is_raised_at_once(self) -> None:
        product = Product()
        product.backend.opening = Denied("wrong password")
        with product.center() as config:
            for verb in (lambda: config.get(KEY), lambda: config.publish(KEY, "x"), lambda: config.watch(KEY)):
                with pytest.raises(Denied, match="wrong password"):
                    verb()

    def test_a_denied_key_is_raised_and_not_served_from_what_is_known(self) -> None:
        product = Product()
        product.backend.found = item("1")
        with product.center() as config:
            config.add_listener(KEY, print)
            product.backend.found = Denied("not this key")
            with pytest.raises(Denied, match="not this key"):
                config.get(KEY)


class TestLoops:
    def test_five_publications_in_five_seconds_are_one(self, caplog: pytest.LogCaptureFixture) -> None:
        product, clock, warned = Product(), ManualClock(), list[ConfigLooped]()
        with product.center(clock) as config:
            config.events.on(ConfigLooped, warned.append)
            product.backend.found = item("1")

            def listener(change: ConfigChange) -> None:
                config.publish("another", "x")
                for _ in range(4):
                    config.publish(KEY, "x")
                clock.advance(6.0)
                config.publish(KEY, "x")
                for _ in range(3):
                    config.publish(KEY, "x")
                assert not warned
                config.publish(KEY, "x")

            config.add_listener(KEY, listener)
            eventually(lambda: warned)
            assert [(str(one.key), one.publications) for one in warned] == [(str(KEY), 5)]
        assert "it may never end" in caplog.text

    def test_what_is_published_elsewhere_is_none(self, name: str) -> None:
        with center(name) as config, center(name) as other:
            warned: list[ConfigLooped] = []
            config.events.on(ConfigLooped, warned.append)
            other.events.on(ConfigLooped, warned.append)

            def listener(change: ConfigChange) -> None:
                for _ in range(10):
                    other.publish(KEY, "x")

            config.add_listener(KEY, listener).close()
            for _ in range(10):
                config.publish(KEY, "x")
            assert not warned

    def test_a_task_that_a_listener_began_is_part_of_it(self, name: str) -> None:
        async def main() -> None:
            async with (
                AsyncConfigCenter(f"memory://{name}", options={"snapshot": "off"}) as config,
                asyncio.timeout(10),
            ):
                warned, tasks = asyncio.Event(), list[asyncio.Task[None]]()
                config.events.on(ConfigLooped, lambda _: warned.set())

                async def again() -> None:
                    for number in range(5):
                        await config.publish(KEY, str(number))

                def listener(change: ConfigChange) -> None:
                    if not tasks:
                        tasks.append(asyncio.create_task(again()))

                await config.add_listener(KEY, listener)
                await warned.wait()
                await tasks[0]

        asyncio.run(main())


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
