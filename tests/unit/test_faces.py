"""The blocking and the async face on the engine's thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

import pytest
from engine_thread import engine_threads, name

from sofa_registry_adapters import AsyncRegistry, Registry
from sofa_registry_adapters.backends.memory import space
from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable, WrongThread
from sofa_registry_adapters.testing.faults import eventually, eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name"]


class TestFaces:
    @pytest.mark.parametrize("after", (0.0, 0.01, 0.3))
    def test_an_aclose_that_is_cancelled_closes_all_the_same(self, name: str, after: float) -> None:
        async def main() -> None:
            registry = AsyncRegistry(f"memory://{name}")
            await registry.publish("a", "h:1")
            ending = asyncio.create_task(registry.aclose())
            await asyncio.sleep(after)
            ending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ending
            await registry.aclose()

        asyncio.run(main())
        eventually(lambda: not engine_threads())
        with Registry(f"memory://{name}") as other:
            assert list(other.lookup("a")) == []

    def test_a_blocking_verb_on_the_engines_thread_raises(self, name: str) -> None:
        with Registry(f"memory://{name}") as registry:
            registration = registry.publish("a", "h:1")
            session = registry._opened()
            verbs: list[Callable[[], object]] = [
                lambda: registry.lookup("b"),
                lambda: registry.publish("b", "h:1"),
                lambda: registry.subscribe("b", print),
                lambda: registry.watch("b"),
                registry.services,
                registration.unpublish,
                registration.wait_live,
                lambda: registration.update(weight=1),
                registry.close,
            ]

            async def call_all() -> list[str]:
                said = []
                for verb in verbs:
                    with pytest.raises(WrongThread) as caught:
                        verb()
                    said.append(str(caught.value))
                return said

            assert all("engine" in text for text in session.call(call_all()).future.result(5))
            assert registration.state == "live"
            assert registry.lookup("a")[0].instance_id == "h:1"

    def test_a_close_ends_the_verbs_of_other_threads(self, name: str) -> None:
        space(name).partition()
        registry = Registry(f"memory://{name}").open()
        errors: list[BaseException] = []
        verbs: list[Callable[[], object]] = [
            lambda: registry.publish("a", "h:1", timeout=30),
            lambda: registry.lookup("a", timeout=30),
            lambda: registry.subscribe("b", print, timeout=30),
            lambda: registry.services(timeout=30),
        ]

        def call(verb: Callable[[], object]) -> None:
            try:
                verb()
            except BaseException as error:  # noqa: BLE001  the test tells
                errors.append(error)

        threads = [threading.Thread(target=call, args=(verb,), daemon=True) for verb in verbs]
        for thread in threads:
            thread.start()
        engine = registry._opened().engine
        eventually(lambda: engine._mirrors and engine._keeper.publications())
        registry.close()
        for thread in threads:
            thread.join(5)
        assert [type(error) for error in errors] == [Closed] * len(verbs)

    def test_the_handles_of_a_closed_registry_raise_closed(self, name: str) -> None:
        registry = Registry(f"memory://{name}")
        registration, watch = registry.publish("a", "h:1"), registry.watch("a")
        registry.close()
        eventually(lambda: engine_threads() == [])
        with contextlib.suppress(Closed):
            registration.unpublish()
        for verb in (registration.wait_live, lambda: registration.update(weight=1), lambda: registry.lookup("a")):
            with pytest.raises(Closed):
                verb()
        assert registration.state == "withdrawn"
        assert watch.next(1) is None or watch.next(1) is None

    def test_a_huge_timeout_is_a_timeout_or_a_refusal(self, name: str) -> None:
        with Registry(f"memory://{name}") as registry:
            for timeout in (1e6, 1e12, 1e300):
                try:
                    registry.lookup("a", timeout=timeout)
                except RegistryError as error:
                    assert "timeout" in str(error)  # noqa: PT017  both ends are right

    def test_an_interrupted_first_notice_leaves_no_watch(self, name: str) -> None:
        def interrupt(change: object) -> None:
            raise KeyboardInterrupt

        with Registry(f"memory://{name}") as registry:
            with pytest.raises(KeyboardInterrupt):
                registry.subscribe("a", interrupt)
            eventually(lambda: space(name)._feeds == {})

    def test_a_cancelled_first_notice_leaves_no_watch(self, name: str) -> None:
        async def main() -> None:
            begun = asyncio.Event()

            async def slow(change: object) -> None:
                begun.set()
                await asyncio.sleep(60)

            async with AsyncRegistry(f"memory://{name}") as registry, asyncio.timeout(10):
                task = asyncio.create_task(registry.subscribe("a", slow))
                await begun.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await eventually_async(lambda: not space(name)._feeds)

        asyncio.run(main())

    def test_a_subscription_that_failed_leaves_no_watch(self, name: str) -> None:
        space(name).partition()
        with Registry(f"memory://{name}") as registry:
            with pytest.raises(Unavailable):
                registry.subscribe("a", print, timeout=0.1)
            space(name).heal()
            registry.publish("b", "h:1")
            session = registry._opened()
            eventually(lambda: not session.engine._mirrors)
            assert space(name)._feeds == {}

    def test_an_async_face_needs_no_thread_of_its_caller(self, name: str) -> None:
        async def main() -> None:
            async with AsyncRegistry(f"memory://{name}") as registry:
                registration = await registry.publish("a", "h:1")
                time.sleep(0.2)  # noqa: ASYNC251  an application that blocks its loop stays registered
                assert registration.state == "live"

        asyncio.run(main())

    def test_a_cancelled_publish_leaves_nothing(self, name: str) -> None:
        async def main() -> None:
            async with AsyncRegistry(f"memory://{name}") as registry, asyncio.timeout(10):
                space(name).slow(0.3)
                task = asyncio.create_task(registry.publish("a", "h:1"))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                space(name).slow(0)
                keeper = (registry._opened()).engine._keeper
                await eventually_async(lambda: not keeper._services)
                assert not await registry.lookup("a")

        asyncio.run(main())
