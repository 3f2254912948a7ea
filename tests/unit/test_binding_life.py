"""Bound models whatever the center does, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from bound_models import Needy, Pool, Settings, bind, center, centers, face

from sofa_registry_adapters import AsyncConfigCenter, ConfigCenter, ConfigKey
from sofa_registry_adapters.backends.memory import Space, space
from sofa_registry_adapters.engine.binding import Binding
from sofa_registry_adapters.engine.mailbox import Events, ThreadCourier
from sofa_registry_adapters.errors import Closed, CorruptRecord, Unavailable
from sofa_registry_adapters.model.config import ConfigChange
from sofa_registry_adapters.model.events import ConfigRejected
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.contract.centers import Center, Centers
from sofa_registry_adapters.testing.contract.clients import Application, FaceName
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.typed.layers import Layers
from sofa_registry_adapters.typed.models import model_of

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["center", "centers", "face"]


@pytest.fixture
def here(centers: Centers) -> Iterator[Space]:
    """The space of this test's centers; healed at the end."""
    found = space("bind", str(centers._options["namespace"]))
    yield found
    found.heal()
    found.slow(0.0)


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
