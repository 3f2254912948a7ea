"""What is followed in a config center stays in step, and a listener that publishes does not go round for ever."""

from __future__ import annotations

import asyncio

import pytest
from scripted_center import KEY, Product, Step, Told, center, item, name, place

from sofa_registry_adapters import ABSENT, AsyncConfigCenter, ConfigChange
from sofa_registry_adapters.backends.memory import Space
from sofa_registry_adapters.errors import CorruptRecord, Denied, Unavailable
from sofa_registry_adapters.events import ConfigLooped, ConfigRejected, Event
from sofa_registry_adapters.spi.registry import Rejected
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import eventually

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name", "place"]


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
