"""Bound models follow their key: values, bad pushes, layers."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from typing import Any

import msgspec
import pydantic
import pytest
from bound_models import Needy, Pool, Settings, bind, center, centers, face

from sofa_registry_adapters import ConfigKey
from sofa_registry_adapters.errors import CorruptRecord
from sofa_registry_adapters.model.events import ConfigRejected
from sofa_registry_adapters.testing.contract.centers import Center, Centers
from sofa_registry_adapters.testing.faults import eventually

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["center", "centers", "face"]

SECRET = "hunter2"


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
