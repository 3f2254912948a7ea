"""What is told of a bound model, field by field; and what cannot be bound."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any, ClassVar

import pydantic
import pytest
from bound_models import Pool, Settings, bind, center, centers, face

from sofa_registry_adapters import ConfigKey, FieldSubscription
from sofa_registry_adapters.errors import InvalidArgument, MissingDependency
from sofa_registry_adapters.model.events import ConfigLooped, ConfigRejected, ListenerFailed
from sofa_registry_adapters.testing.contract.centers import Center, Centers
from sofa_registry_adapters.testing.faults import eventually

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["center", "centers", "face"]


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
