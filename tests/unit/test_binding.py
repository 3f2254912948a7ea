"""Bound models, in both faces: swapped whole or not at all, layered, told field by field, whatever the center or a push does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import multiprocessing
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pydantic
import pytest

from sofa_registry_adapters import AsyncConfigCenter, Bound, ConfigCenter, ConfigKey, FieldSubscription
from sofa_registry_adapters.backends.memory import Space, space
from sofa_registry_adapters.bound import AsyncBound
from sofa_registry_adapters.engine.binding import Binding
from sofa_registry_adapters.engine.mailbox import Events, ThreadCourier
from sofa_registry_adapters.errors import Closed, CorruptRecord, InvalidArgument, MissingDependency, Unavailable
from sofa_registry_adapters.model.config import ConfigChange
from sofa_registry_adapters.model.events import ConfigLooped, ConfigRejected, ListenerFailed
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.contract.centers import Center, Centers
from sofa_registry_adapters.testing.contract.clients import Application, FaceName
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.typed.layers import Layers
from sofa_registry_adapters.typed.models import model_of

SECRET = "hunter2"


class Pool(msgspec.Struct, frozen=True):
    size: int = 1
    name: str = "x"


class Settings(msgspec.Struct, frozen=True):
    pool: Pool = Pool()
    limits: dict[str, int] = {}
    debug: bool = False


class Needy(msgspec.Struct, frozen=True):
    url: str
    size: int = 1


class Twins(msgspec.Struct, frozen=True):
    left: int = 0
    right: int = 0


@dataclasses.dataclass(frozen=True)
class PlainPool:
    size: int = 1


@dataclasses.dataclass(frozen=True)
class PlainSettings:
    pool: PlainPool = dataclasses.field(default_factory=PlainPool)


class PydanticPool(pydantic.BaseModel):
    size: int = 1


class PydanticSettings(pydantic.BaseModel):
    pool: PydanticPool = PydanticPool()


class Handled:
    """A bound model of either face, driven from the test's thread."""

    def __init__(self, center: Center, bound: Bound[Any] | AsyncBound[Any]) -> None:
        self.center = center
        self.bound = bound

    @property
    def current(self) -> Any:
        return self.bound.current

    def on(self, field: str, callback: Callable[[Any, Any], object]) -> FieldSubscription:
        place: FieldSubscription = self.center.do(lambda: self.bound.on(field, callback))
        return place

    def steps(self, field: str) -> list[tuple[Any, Any]]:
        """What a callback of the field is told from now on."""
        found: list[tuple[Any, Any]] = []
        self.on(field, lambda old, new: found.append((old, new)))
        return found

    def becomes(self, condition: Callable[[Any], object], seconds: float = 5.0) -> None:
        eventually(lambda: condition(self.bound.current), seconds, "the value is applied")

    def close(self) -> None:
        self.center.do(self.bound.aclose if isinstance(self.bound, AsyncBound) else self.bound.close)


def bind(center: Center, model: type[Any], *sources: Any, **more: Any) -> Handled:
    return Handled(center, center.do(lambda: center.center.bind(model, *sources, **more)))


@pytest.fixture
def centers() -> Iterator[Centers]:
    made = Centers("memory://bind", {"namespace": secrets.token_hex(8), "call_timeout": 1.0})
    yield made
    made.close()


@pytest.fixture(params=("blocking", "async"))
def face(request: pytest.FixtureRequest) -> FaceName:
    found: FaceName = request.param
    return found


@pytest.fixture
def center(centers: Centers, face: FaceName) -> Center:
    return centers.open(face)


@pytest.fixture
def here(centers: Centers) -> Iterator[Space]:
    """The space of this test's centers; healed at the end."""
    found = space("bind", str(centers._options["namespace"]))
    yield found
    found.heal()
    found.slow(0.0)


class TestFollowing:
    def test_nothing_is_the_defaults(self, center: Center) -> None:
        bound = bind(center, Settings, "app.yaml")
        assert bound.current == Settings()
        assert not bound.bound.stale
        assert bound.bound.last_error is None
        assert bound.bound.keys == (ConfigKey("app.yaml"),)

    @pytest.mark.parametrize("kind", (Settings, PlainSettings, PydanticSettings))
    @pytest.mark.parametrize(
        ("key", "content_type", "text"),
        (
            ("app.yaml", "", "pool: {{size: {}}}"),
            ("app.toml", "", "pool.size = {}"),
            ("app.json", "", '{{"pool": {{"size": {}}}}}'),
            ("app.properties", "", "pool.size={}"),
            ("app", "yaml", "pool: {{size: {}}}"),
        ),
    )
    def test_what_is_there_and_each_change(
        self, center: Center, kind: type[Any], key: str, content_type: str, text: str
    ) -> None:
        center.publish(key, text.format(5), group="orders", content_type=content_type)
        bound = bind(center, kind, key, group="orders")
        assert type(bound.current) is kind
        assert bound.current.pool.size == 5
        center.publish(key, text.format(6).encode(), group="orders", content_type=content_type)
        bound.becomes(lambda current: current.pool.size == 6)

    def test_a_removal_brings_the_defaults_back(self, center: Center) -> None:
        center.publish("app.yaml", "pool: {size: 5}\ndebug: true")
        bound = bind(center, Settings, "app.yaml")
        steps = bound.steps("pool.size")
        center.remove("app.yaml")
        bound.becomes(lambda current: current == Settings())
        center.publish("app.yaml", "pool: {size: 6}")
        bound.becomes(lambda current: current.pool.size == 6)
        eventually(lambda: steps[-1:] == [(1, 6)], 5.0, "it is told")

    def test_a_burst_ends_at_the_last_value(self, center: Center, centers: Centers) -> None:
        bound = bind(center, Settings, "app.yaml")
        steps = bound.steps("pool.size")
        publisher = centers.open()
        for size in range(2, 202):
            publisher.publish("app.yaml", f"pool: {{size: {size}}}")
        bound.becomes(lambda current: current.pool.size == 201)
        eventually(lambda: steps[-1][1] == 201, 5.0, "the last one is told")
        assert steps[0][0] == 1
        assert all(before[1] == after[0] for before, after in itertools.pairwise(steps)), "no gap"

    def test_current_is_swapped_whole(self, center: Center, centers: Centers) -> None:
        bound, publisher = bind(center, Twins, "app.json"), centers.open()
        torn: list[Twins] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                found = bound.bound.current
                if found.left != found.right:
                    torn.append(found)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for one in readers:
            one.start()
        try:
            for number in range(1, 101):
                publisher.publish("app.json", f'{{"left": {number}, "right": {number}}}')
            bound.becomes(lambda current: current.left == 100)
        finally:
            done.set()
            for one in readers:
                one.join()
        assert torn == []

    def test_current_is_an_attribute(self, center: Center) -> None:
        bound = bind(center, Settings, "app.yaml").bound
        assert vars(bound)["current"] is bound.current
        assert not any(hasattr(cls, "current") for cls in type(bound).__mro__)

    def test_values_are_parsed_on_neither_loop(self, center: Center) -> None:
        threads: list[str] = []

        class Noting(pydantic.BaseModel):
            size: int = 1

            @pydantic.field_validator("size")
            @classmethod
            def noted(cls, size: int) -> int:
                threads.append(threading.current_thread().name)
                return size

        center.publish("app.json", '{"size": 2}')
        bound = bind(center, Noting, "app.json")
        center.publish("app.json", '{"size": 3}')
        bound.becomes(lambda current: current.size == 3)
        listening = "sofa-registry-listener"
        first = listening if center.asynchronous else threading.current_thread().name
        assert threads == [first, listening]


class TestBadPushes:
    @pytest.mark.parametrize("kind", (Settings, PlainSettings, PydanticSettings))
    def test_the_old_value_stays_and_the_event_names_the_field(self, center: Center, kind: type[Any]) -> None:
        """Must show 6."""
        center.publish("app.yaml", "pool: {size: 5}", group="orders")
        bound, rejected = bind(center, kind, "app.yaml", group="orders"), center.heard(ConfigRejected)
        before, steps = bound.current, bound.steps("pool.size")
        center.publish("app.yaml", "pool: {size: five}", group="orders")
        eventually(lambda: rejected, 5.0, "it is told")
        assert rejected[0].key == ConfigKey("app.yaml", "orders")
        assert rejected[0].field == "pool.size"
        assert rejected[0].reason.startswith("pool.size: ")
        assert "five" not in str(rejected)
        assert bound.current is before
        assert isinstance(bound.bound.last_error, CorruptRecord)
        assert "orders/app.yaml" in str(bound.bound.last_error)
        assert not bound.bound.stale, "the center was heard"
        center.publish("app.yaml", "pool: {size: 6}", group="orders")
        bound.becomes(lambda current: current.pool.size == 6)
        eventually(lambda: steps == [(5, 6)], 5.0, "the bad one was no step")
        assert bound.bound.last_error is None
        assert len(rejected) == 1

    @pytest.mark.parametrize(
        ("content", "reason"),
        (
            ("pool: [1", "not YAML"),
            (b"\xff", "UTF-8"),
            ("[1]", "mapping"),
            ("a: &a [*a]", "alias"),
            ("a: " + "[" * 70 + "]" * 70, "nested"),
        ),
    )
    def test_what_cannot_be_parsed(self, center: Center, content: str | bytes, reason: str) -> None:
        center.publish("app.yaml", "pool: {size: 5}")
        bound, rejected = bind(center, Settings, "app.yaml"), center.heard(ConfigRejected)
        center.publish("app.yaml", content)
        eventually(lambda: rejected, 5.0, "it is told")
        assert reason in rejected[0].reason
        assert rejected[0].field == ""
        assert bound.current.pool.size == 5
        center.publish("app.yaml", "pool: {size: 6}")
        bound.becomes(lambda current: current.pool.size == 6)

    def test_a_removal_that_leaves_no_valid_object(self, center: Center) -> None:
        center.publish("app.yaml", "url: u\nsize: 5")
        bound, rejected = bind(center, Needy, "app.yaml"), center.heard(ConfigRejected)
        center.remove("app.yaml")
        eventually(lambda: rejected, 5.0, "it is told")
        assert rejected[0].field == "url"
        assert bound.current == Needy("u", 5)
        center.publish("app.yaml", "url: v")
        bound.becomes(lambda current: current == Needy("v", 1))

    def test_names_that_are_not_known(self, center: Center) -> None:
        strict, rejected = bind(center, Settings, "app.yaml", strict=True), center.heard(ConfigRejected)
        lenient = bind(center, Settings, "app.yaml")
        center.publish("app.yaml", "pool: {sise: 5, size: 2}")
        lenient.becomes(lambda current: current.pool.size == 2)
        eventually(lambda: rejected, 5.0, "it is told")
        assert rejected[0].reason == "pool.sise: it is not known: did you mean 'size'?"
        assert strict.current == Settings()

    def test_no_secret_is_shown(self, center: Center, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        center.publish("app.yaml", f"url: {SECRET}")
        bound, rejected = bind(center, Needy, "app.yaml"), center.heard(ConfigRejected)
        contents = (f"url: u\nsize: {SECRET}", f"url: *{SECRET}", f"url: !{SECRET}", f"url: [{SECRET}", f"- {SECRET}")
        for number, content in enumerate(contents, 1):
            center.publish("app.yaml", content)
            eventually(lambda number=number: len(rejected) == number, 5.0, "it is told")  # type: ignore[misc]
            assert SECRET not in f"{rejected[-1]!r} {bound.bound!r} {bound.bound.last_error!r}"
        assert bound.current.url == SECRET
        with pytest.raises(CorruptRecord) as caught:
            bind(center, Twins, "app.yaml", strict=True)
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
        assert "is not used for Needy" in caplog.text
        assert SECRET not in caplog.text

    def test_the_same_one_again_and_again_is_logged_once(
        self, center: Center, caplog: pytest.LogCaptureFixture
    ) -> None:
        bound, rejected = bind(center, Settings, "app.yaml"), center.heard(ConfigRejected)
        for number in range(1, 6):
            center.publish("app.yaml", "pool: {size: x}")
            eventually(lambda number=number: len(rejected) == number, 5.0, "each is told")  # type: ignore[misc]
        assert caplog.text.count("is not used for Settings") == 1
        assert bound.current == Settings()


class TestLayers:
    def test_later_ones_override_earlier_ones(self, center: Center) -> None:
        center.publish("base.yaml", "pool: {size: 5, name: base}\nlimits: {eu: 1, us: 2}", group="shared")
        center.publish("app.properties", "pool.size=6\nlimits.eu=3")
        bound = bind(center, Settings, ("base.yaml", "shared"), "app.properties")
        assert bound.current == Settings(Pool(6, "base"), {"eu": 3, "us": 2})
        assert bound.bound.keys == (ConfigKey("base.yaml", "shared"), ConfigKey("app.properties"))
        center.remove("app.properties")
        bound.becomes(lambda current: current == Settings(Pool(5, "base"), {"eu": 1, "us": 2}))
        center.remove("base.yaml", group="shared")
        bound.becomes(lambda current: current == Settings())

    def test_a_bad_one_is_named_and_does_not_hold_up_the_others(self, center: Center) -> None:
        bound, rejected = bind(center, Settings, "base.yaml", "app.yaml"), center.heard(ConfigRejected)
        center.publish("base.yaml", "pool: {size: x}\ndebug: true")
        eventually(lambda: rejected, 5.0, "it is told")
        assert (rejected[0].key.key, rejected[0].field) == ("base.yaml", "pool.size")
        center.publish("app.yaml", "limits: {eu: 1}")
        bound.becomes(lambda current: current == Settings(limits={"eu": 1}))
        assert "base.yaml" in str(bound.bound.last_error), "it is still not used"
        center.publish("app.yaml", "limits: {eu: 1}\npool: {size: 4}")
        bound.becomes(lambda current: current == Settings(Pool(4), {"eu": 1}, debug=True))
        assert bound.bound.last_error is None, "the mistake is overridden, and the rest of it in use"
        assert len(rejected) == 1
        center.publish("app.yaml", "limits: {eu: 2}")
        eventually(lambda: len(rejected) == 2, 5.0, "it is told")
        assert (rejected[1].key.key, rejected[1].field) == ("base.yaml", "pool.size"), (
            "who is to blame, not who was last"
        )
        assert bound.current.limits == {"eu": 1}

    def test_what_cannot_be_parsed_stays_as_it_was(self, center: Center) -> None:
        center.publish("base.yaml", "debug: true")
        bound, rejected = bind(center, Settings, "base.yaml", "app.yaml"), center.heard(ConfigRejected)
        center.publish("base.yaml", "debug: [")
        eventually(lambda: rejected, 5.0, "it is told")
        center.publish("app.yaml", "pool: {size: 2}")
        bound.becomes(lambda current: current == Settings(Pool(2), debug=True))
        assert "base.yaml" in str(bound.bound.last_error)
        center.publish("base.yaml", "debug: false")
        bound.becomes(lambda current: current == Settings(Pool(2)))
        assert bound.bound.last_error is None

    def test_a_field_moves_from_one_to_another(self, center: Center) -> None:
        center.publish("base.yaml", "url: u")
        bound, rejected = bind(center, Needy, "base.yaml", "app.yaml"), center.heard(ConfigRejected)
        center.publish("base.yaml", "size: 2")
        eventually(lambda: rejected, 5.0, "alone it is refused")
        assert bound.current == Needy("u")
        center.publish("app.yaml", "url: v")
        bound.becomes(lambda current: current == Needy("v", 2))
        assert bound.bound.last_error is None


class TestCallbacks:
    def test_each_is_told_of_its_field_alone(self, center: Center) -> None:
        bound = bind(center, Settings, "app.yaml")
        size, name, pool, entry, limits = (
            bound.steps(one) for one in ("pool.size", "pool.name", "pool", "limits.eu", "limits")
        )
        center.publish("app.yaml", "pool: {size: 5}")
        eventually(lambda: size and pool, 5.0, "it is told")
        center.publish("app.yaml", "pool: {size: 5}\nlimits: {eu: 1}")
        eventually(lambda: entry and limits, 5.0, "it is told")
        center.publish("app.yaml", "pool: {size: 5}\nlimits: {us: 2}")
        eventually(lambda: len(entry) == 2, 5.0, "it is told")
        eventually(lambda: len(limits) == 2, 5.0, "it is told")
        assert (size, name, pool) == ([(1, 5)], [], [(Pool(1), Pool(5))])
        assert (entry, limits) == ([(None, 1), (1, None)], [({}, {"eu": 1}), ({"eu": 1}, {"us": 2})])

    def test_current_is_there_before_the_call(self, center: Center) -> None:
        bound = bind(center, Settings, "app.yaml")
        seen: list[tuple[int, int]] = []
        bound.on("pool.size", lambda _, new: seen.append((new, bound.current.pool.size)))
        center.publish("app.yaml", "pool: {size: 5}")
        eventually(lambda: seen, 5.0, "it is told")
        assert seen == [(5, 5)]

    def test_one_that_raises_harms_nobody(self, center: Center) -> None:
        bound, failed = bind(center, Settings, "app.yaml"), center.heard(ListenerFailed)

        def failing(_: object, new: int) -> None:
            raise ValueError(f"not {new > 0}")

        bound.on("pool.size", failing)
        steps = bound.steps("pool.size")
        for size in (5, 6):
            center.publish("app.yaml", f"pool: {{size: {size}}}")
            eventually(lambda size=size: steps[-1:] and steps[-1][1] == size, 5.0, "it is told")  # type: ignore[misc]
            eventually(lambda size=size: len(failed) == size - 4, 5.0, "each failure is an event")  # type: ignore[misc]
        assert "failing" in failed[0].listener
        assert failed[0].reason == "ValueError: not True"

    def test_a_slow_one_holds_up_nobody_and_gets_the_latest(self, center: Center) -> None:
        bound, gate = bind(center, Settings, "app.yaml"), threading.Event()
        slow: list[tuple[int, int]] = []
        inside = threading.Event()

        def blocking(old: int, new: int) -> None:
            inside.set()
            gate.wait(20)
            slow.append((old, new))

        async def waiting(old: int, new: int) -> None:
            inside.set()
            while not gate.is_set():  # noqa: ASYNC110  the gate is opened in another thread
                await asyncio.sleep(0.005)
            slow.append((old, new))

        bound.on("pool.size", waiting if center.asynchronous else blocking)
        steps = bound.steps("pool.size")
        try:
            center.publish("app.yaml", "pool: {size: 5}")
            assert inside.wait(5)
            for size in range(6, 26):
                center.publish("app.yaml", f"pool: {{size: {size}}}")
            bound.becomes(lambda current: current.pool.size == 25)
            eventually(lambda: steps[-1][1] == 25, 5.0, "others are told")
            assert slow == []
        finally:
            gate.set()
        eventually(lambda: len(slow) == 2, 5.0, "it goes on")
        assert slow == [(1, 5), (5, 25)]

    def test_one_call_at_a_time(self, center: Center, centers: Centers) -> None:
        bound, publisher = bind(center, Settings, "app.yaml"), centers.open()
        inside, overlaps, last = 0, 0, 0

        def counting(_: int, new: int) -> None:
            nonlocal inside, overlaps, last
            inside += 1
            overlaps += inside > 1
            time.sleep(0.002)
            inside -= 1
            last = new

        bound.on("pool.size", counting)
        for size in range(2, 102):
            publisher.publish("app.yaml", f"pool: {{size: {size}}}")
        eventually(lambda: last == 101, 5.0, "the last one")
        assert overlaps == 0

    def test_one_that_publishes_the_key(self, center: Center) -> None:
        """No deadlock; that it calls itself for ever is an event."""
        bound, looped = bind(center, Settings, "app.yaml"), center.heard(ConfigLooped)
        text = "pool: {{size: {}}}"

        def again(_: int, new: int) -> None:
            if new < 20:
                center.center.publish("app.yaml", text.format(new + 1))  # type: ignore[unused-coroutine]

        async def waiting(_: int, new: int) -> None:
            if new < 20:
                await center.center.publish("app.yaml", text.format(new + 1))  # type: ignore[misc]

        bound.on("pool.size", waiting if center.asynchronous else again)
        center.publish("app.yaml", text.format(2))
        bound.becomes(lambda current: current.pool.size == 20, 10.0)
        eventually(lambda: looped, 5.0, "it is noticed")
        assert looped[0].key == ConfigKey("app.yaml")

    def test_one_that_closes_its_own_place_or_all(self, center: Center) -> None:
        bound = bind(center, Settings, "app.yaml")
        told: list[int] = []
        place: list[FieldSubscription] = []

        def once(_: int, new: int) -> None:
            told.append(new)
            place[0].close()

        place.append(bound.on("pool.size", once))
        steps = bound.steps("pool.size")
        assert (place[0].field, place[0].closed) == ("pool.size", False)
        for size in (5, 6):
            center.publish("app.yaml", f"pool: {{size: {size}}}")
            eventually(lambda size=size: steps[-1:] and steps[-1][1] == size, 5.0, "it is told")  # type: ignore[misc]
        assert told == [5]
        assert place[0].closed

    def test_what_cannot_be_a_callback_or_a_field(self, center: Center) -> None:
        bound = bind(center, Settings, "app.yaml")
        with pytest.raises(InvalidArgument, match="did you mean 'size'"):
            bound.on("pool.sise", print)
        with pytest.raises(InvalidArgument, match="callable"):
            bound.on("pool.size", 5)  # type: ignore[arg-type]
        if not center.asynchronous:

            async def waiting(old: int, new: int) -> None: ...

            with pytest.raises(InvalidArgument, match="plain function"):
                bound.on("pool.size", waiting)

    def test_values_that_cannot_be_compared_count_as_changed(self, center: Center) -> None:
        class Odd:
            def __eq__(self, other: object) -> bool:
                raise RuntimeError("no")

            __hash__ = None  # type: ignore[assignment]

        class Holder(pydantic.BaseModel):
            odd: ClassVar[int] = 0
            thing: Any = None

            @pydantic.field_validator("thing")
            @classmethod
            def odd_one(cls, _: object) -> Odd:
                return Odd()

        center.publish("app.json", '{"thing": 1}')
        bound = bind(center, Holder, "app.json")
        steps = bound.steps("thing")
        center.publish("app.json", '{"thing": 2}')
        eventually(lambda: steps, 5.0, "it is told")


class TestFaults:
    def test_a_partition_changes_nothing_but_that_it_is_stale(
        self, center: Center, centers: Centers, here: Space
    ) -> None:
        center.publish("app.yaml", "pool: {size: 5}")
        bound = bind(center, Settings, "app.yaml")
        here.partition()
        eventually(lambda: bound.bound.stale, 5.0, "it is noticed")
        assert bound.current.pool.size == 5
        assert "stale" in repr(bound.bound)
        here.heal()
        eventually(lambda: not bound.bound.stale, 5.0, "it is back")
        centers.open().publish("app.yaml", "pool: {size: 6}")
        bound.becomes(lambda current: current.pool.size == 6)

    def test_a_center_that_lost_everything_removes_nothing(self, center: Center, here: Space) -> None:
        center.publish("app.yaml", "pool: {size: 5}")
        bound, rejected = bind(center, Settings, "app.yaml"), center.heard(ConfigRejected)
        here.wipe()
        eventually(lambda: rejected, 5.0, "it is told")
        assert bound.current.pool.size == 5
        assert bound.bound.stale

    def test_without_the_center_and_with_nothing_known(self, center: Center, here: Space) -> None:
        here.partition()
        with pytest.raises(Unavailable, match=r"app\.yaml"):
            bind(center, Settings, "app.yaml", timeout=0.3)

    def test_the_defaults_serve_if_nothing_is_required(self, center: Center, centers: Centers, here: Space) -> None:
        here.partition()
        began = time.monotonic()
        bound = bind(center, Settings, "app.yaml", required=False, timeout=0.3)
        assert time.monotonic() - began < 1.5
        assert bound.current == Settings()
        assert bound.bound.stale
        steps = bound.steps("pool.size")
        with pytest.raises(Unavailable, match="url: it is missing"):
            bind(center, Needy, "app.yaml", required=False, timeout=0.3)
        here.heal()
        eventually(lambda: not bound.bound.stale, 5.0, "it is found")
        centers.open().publish("app.yaml", "pool: {size: 6}")
        bound.becomes(lambda current: current.pool.size == 6)
        eventually(lambda: steps == [(1, 6)], 5.0, "the defaults were what it had")

    def test_what_is_there_is_waited_for_though_not_required(self, center: Center, here: Space) -> None:
        center.publish("app.yaml", "pool: {size: 5}")
        here.slow(0.1)
        assert bind(center, Settings, "app.yaml", required=False).current.pool.size == 5

    def test_the_last_known_good_from_the_disk(
        self, centers: Centers, face: FaceName, here: Space, tmp_path: Path
    ) -> None:
        publisher, folder = centers.open(), str(tmp_path / "snapshots")
        publisher.publish("base.yaml", "pool: {size: 5}")
        publisher.publish("app.toml", "debug = true", content_type="toml")
        first = centers.open(face, snapshot=folder)
        bind(first, Settings, "base.yaml", "app.toml")
        eventually(lambda: len(list((tmp_path / "snapshots").rglob("*.json"))) >= 2, 5.0, "both are saved")
        first.close()
        here.partition()
        late = centers.open(face, snapshot=folder)
        bound = bind(late, Settings, "base.yaml", "app.toml")
        assert bound.current == Settings(Pool(5), debug=True)
        assert bound.bound.stale
        here.heal()
        eventually(lambda: not bound.bound.stale, 5.0, "it is confirmed")
        publisher.publish("base.yaml", "pool: {size: 6}")
        bound.becomes(lambda current: current == Settings(Pool(6), debug=True))

    def test_a_start_with_what_cannot_be_used(self, center: Center) -> None:
        center.publish("app.yaml", "pool: {size: x}")
        with pytest.raises(CorruptRecord, match=r"DEFAULT_GROUP/app\.yaml cannot be used for Settings: pool\.size: "):
            bind(center, Settings, "app.yaml")
        with pytest.raises(CorruptRecord, match="url: it is missing"):
            bind(center, Needy, "app.yaml", required=False)
        center.publish("base.yaml", "debug: true")
        rejected = center.heard(ConfigRejected)
        bound = bind(center, Settings, "base.yaml", "app.yaml", required=False)
        assert bound.current == Settings(debug=True), "what can be used is"
        eventually(lambda: rejected, 5.0, "the rest is told")
        assert (rejected[0].key.key, rejected[0].field) == ("app.yaml", "pool.size")
        assert bound.bound.last_error is not None
        center.publish("app.yaml", "pool: {size: 7}")
        bound.becomes(lambda current: current == Settings(Pool(7), debug=True))

    def test_a_cancelled_bind_leaves_nothing_behind(self, centers: Centers, here: Space) -> None:
        here.partition()
        application = Application()
        center = AsyncConfigCenter(centers.url, options=centers._options)

        async def cancelled() -> int:
            task = asyncio.create_task(center.bind(Settings, "a.yaml", "b.yaml"))
            await asyncio.sleep(0.1)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return 0

        try:
            application.run(cancelled())
            mirrors = center._opened().engine._mirrors
            eventually(lambda: not len(mirrors), 5.0, "nothing is followed")
            application.run(center.aclose())
        finally:
            application.close()


class TestEnding:
    def test_a_closed_one_stays_as_it_is(self, center: Center) -> None:
        center.publish("app.yaml", "pool: {size: 5}")
        bound, other = bind(center, Settings, "app.yaml"), bind(center, Settings, "app.yaml")
        steps = bound.steps("pool.size")
        bound.close()
        bound.close()
        center.publish("app.yaml", "pool: {size: 6}")
        other.becomes(lambda current: current.pool.size == 6)
        assert bound.current.pool.size == 5
        assert steps == []
        assert bound.bound.closed
        assert bound.bound.stale
        assert "closed" in repr(bound.bound)
        with pytest.raises(Closed):
            bound.on("pool.size", print)

    def test_what_was_being_validated_then_is_not_shown(self, center: Center) -> None:
        inside, gate, done = threading.Event(), threading.Event(), threading.Event()

        class Slow(pydantic.BaseModel):
            size: int = 1

            @pydantic.field_validator("size")
            @classmethod
            def slow(cls, size: int) -> int:
                inside.set()
                gate.wait(20)
                done.set()
                return size

        bound = bind(center, Slow, "app.json")
        before = bound.current
        center.publish("app.json", '{"size": 2}')
        try:
            assert inside.wait(5)
            bound.close()
        finally:
            gate.set()
        assert done.wait(5)
        eventually(lambda: not bound.bound._binding._running, 5.0, "it is over")
        assert bound.current is before

    def test_as_a_context(self, centers: Centers) -> None:
        with centers.open().center.bind(Settings, "app.yaml") as bound:  # type: ignore[union-attr]
            assert not bound.closed
        assert bound.closed

    def test_it_ends_with_its_center(self, center: Center) -> None:
        center.publish("app.yaml", "pool: {size: 5}")
        bound = bind(center, Settings, "app.yaml")
        center.close()
        assert bound.bound.closed
        assert bound.current.pool.size == 5
        with pytest.raises(Closed):
            bind(center, Settings, "app.yaml")

    def test_closing_ends_what_nobody_else_follows(self, center: Center) -> None:
        bound = bind(center, Settings, "a.yaml", "b.yaml")
        mirrors = center.center._opened().engine._mirrors
        assert len(mirrors) == 2
        bound.close()
        eventually(lambda: not len(mirrors), 5.0, "nothing is followed")

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
    def test_a_child_keeps_what_was_current(self, centers: Centers) -> None:
        center = centers.open()
        center.publish("app.yaml", "pool: {size: 5}")
        bound = bind(center, Settings, "app.yaml")
        context = multiprocessing.get_context("fork")
        answers: Any = context.Queue()

        def child() -> None:
            try:
                bound.on("pool.size", print)
            except Closed:
                answers.put((bound.current.pool.size, bound.bound.stale, bound.bound.closed))
            bound.close()

        process = context.Process(target=child)
        process.start()
        assert answers.get(timeout=10) == (5, True, True)
        process.join(10)
        center.publish("app.yaml", "pool: {size: 6}")
        bound.becomes(lambda current: current.pool.size == 6)


class TestArguments:
    @pytest.mark.parametrize(
        ("model", "sources", "more"),
        (
            (Settings, (), {}),
            (Settings, ("a.yaml", "a.yaml"), {}),
            (Settings, ("a.yaml", ("a.yaml", "DEFAULT_GROUP")), {}),
            (Settings, (5,), {}),
            (Settings, ("",), {}),
            (Settings, (("a", "b", "c"),), {}),
            (Settings, (ConfigKey("a", "b"),), {"group": "c"}),
            (dict, ("a.yaml",), {}),
            (Settings(), ("a.yaml",), {}),
            (Settings, ("a.yaml",), {"timeout": 0}),
        ),
    )
    def test_what_cannot_be_bound(self, center: Center, model: Any, sources: tuple[Any, ...], more: Any) -> None:
        with pytest.raises(InvalidArgument):
            bind(center, model, *sources, **more)

    def test_without_pyyaml(self, center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        for key in ("a.yaml", "a.yml"):
            with pytest.raises(MissingDependency, match=r"pip install 'sofa-registry-adapters\[yaml\]'"):
                bind(center, Settings, key, required=False)
        center.publish("app", "pool: {size: 5}", content_type="yaml")
        with pytest.raises(MissingDependency):
            bind(center, Settings, "app")
        center.publish("app", "{}", content_type="json")
        bound, rejected = bind(center, Settings, "app"), center.heard(ConfigRejected)
        center.publish("app", "pool: {size: 5}", content_type="yaml")
        eventually(lambda: rejected, 5.0, "later it is a bad push")
        assert "pip install 'sofa-registry-adapters[yaml]'" in rejected[0].reason
        assert bound.current == Settings()

    def test_callbacks_of_the_async_one_need_a_loop(self, centers: Centers) -> None:
        from sofa_registry_adapters.errors import WrongThread

        bound = bind(centers.open("async"), Settings, "app.yaml")
        with pytest.raises(WrongThread):
            bound.bound.on("pool.size", print)


def test_news_at_the_last_moment_are_not_missed() -> None:
    """What comes between the last look and the end of the work is looked at by that work."""
    change = ConfigChange(ConfigKey("app.json"), None)

    class Late:
        """A mailbox that gets its news while it says that it has none."""

        closed = False
        looks = 0

        def take(self) -> ConfigChange | None:
            self.looks += 1
            if self.looks == 1:
                binding._wake()
            return change if self.looks == 2 else None

    class Held:
        """A courier that does not begin by itself."""

        begun = 0

        def carry(self, *_: object) -> None:
            self.begun += 1

    layers = Layers(model_of(Settings, strict=False), [change.key])
    late, courier = Late(), Held()
    binding: Binding[Settings] = Binding(layers, [late], Events(ThreadCourier()), SystemClock())  # type: ignore[list-item]
    binding._courier = courier  # type: ignore[assignment]
    binding._wake()
    assert binding._next() == (0, change)
    assert binding._next() is None
    binding._wake()
    assert courier.begun == 2, "and after that it begins again"


def test_a_blocking_center_binds_from_several_threads() -> None:
    with ConfigCenter(f"memory://{secrets.token_hex(8)}") as center:
        center.publish("app.yaml", "pool: {size: 5}")
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(center.bind(Settings, "app.yaml").current.pool.size))
            for _ in range(8)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join(10)
        assert found == [5] * 8
