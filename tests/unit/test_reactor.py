"""The engine's thread: calls that are given up leave nothing behind, and the last close ends it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from sofa_registry_adapters import AsyncRegistry, Registry
from sofa_registry_adapters.backends.memory import BACKEND, space
from sofa_registry_adapters.engine.reactor import (
    REACTOR,
    Call,
    DaemonExecutor,
    DaemonPool,
    Reactor,
    bounded,
    closing,
    stop_tasks,
)
from sofa_registry_adapters.errors import Closed, DeadlineExceeded, RegistryError, Unavailable, WrongThread
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType
from sofa_registry_adapters.spi.worker import Worker
from sofa_registry_adapters.testing.faults import eventually, eventually_async


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sofa-registry")]


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.stop(5)
    assert not made._thread.is_alive()


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


class TestCall:
    def test_a_result_and_an_error(self, reactor: Reactor) -> None:
        async def answer() -> bool:
            return reactor.inside()

        async def fail() -> None:
            raise Unavailable("no")

        assert Call(reactor, answer()).future.result(5)
        assert not reactor.inside()
        with pytest.raises(Unavailable, match="no"):
            Call(reactor, fail()).future.result(5)

    def test_what_comes_when_the_loop_ends_is_answered_too(self) -> None:
        """Between the loop's last turn and its end it still takes calls."""

        async def answer() -> int:
            await asyncio.sleep(0)
            return 7

        for _ in range(200):
            reactor, calls = Reactor(), list[Call[int]]()
            reactor.stop(0)
            with contextlib.suppress(Closed):
                while True:
                    calls.append(Call(reactor, answer()))
            for call in calls:
                with contextlib.suppress(CancelledError):
                    assert call.future.result(5) == 7
            assert not reactor.calls

    def test_what_is_given_up_before_its_end_is_cancelled(self, reactor: Reactor) -> None:
        begun, ended, undone = threading.Event(), threading.Event(), list[object]()

        async def work() -> str:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return "x"

        call = Call(reactor, work(), undone.append)
        assert begun.wait(5)
        call.abandon()
        call.abandon()
        assert ended.wait(5)
        assert not undone

    def test_a_result_that_came_before_it_was_given_up_is_undone(self, reactor: Reactor) -> None:
        undone: list[str] = []
        told = threading.Event()

        def undo(result: str) -> None:
            assert reactor.inside()
            undone.append(result)
            told.set()

        async def work() -> str:
            return "x"

        call = Call(reactor, work(), undo)
        assert call.future.result(5) == "x"
        call.abandon()
        assert told.wait(5)
        call.abandon()
        assert Call(reactor, asyncio.sleep(0, "done")).future.result(5) == "done"
        assert undone == ["x"]

    def test_a_result_that_comes_in_spite_of_the_cancellation_is_undone(self, reactor: Reactor) -> None:
        begun, told, undone = threading.Event(), threading.Event(), list[str]()

        async def stubborn() -> str:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "in spite"
            return "never"

        def undo(result: str) -> None:
            undone.append(result)
            told.set()

        call = Call(reactor, stubborn(), undo)
        assert begun.wait(5)
        call.abandon()
        assert told.wait(5)
        assert undone == ["in spite"]

    def test_an_error_of_what_was_given_up_disturbs_nobody(self, reactor: Reactor) -> None:
        async def fail() -> None:
            raise Unavailable("no")

        call = Call(reactor, fail(), pytest.fail)
        with pytest.raises(Unavailable):
            call.future.result(5)
        call.abandon()
        assert Call(reactor, asyncio.sleep(0, 1)).future.result(5) == 1

    def test_a_call_on_a_reactor_that_ended_raises_closed(self) -> None:
        reactor = Reactor()
        reactor.stop(5)
        work = asyncio.sleep(0)
        with pytest.raises(Closed):
            Call(reactor, work)
        work.close()

    def test_giving_up_after_the_end_is_harmless(self) -> None:
        reactor = Reactor()
        call = Call(reactor, asyncio.sleep(0, 1))
        assert call.future.result(5) == 1
        reactor.stop(5)
        call.abandon()


class TestReactor:
    def test_its_loop_is_a_plain_selector_loop_whatever_the_policy(self, reactor: Reactor) -> None:
        assert type(reactor.loop) is asyncio.SelectorEventLoop

    def test_its_end_cancels_what_runs(self) -> None:
        reactor, ended = Reactor(), threading.Event()

        async def forever() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()

        Call(reactor, forever())
        Call(reactor, asyncio.sleep(0)).future.result(5)
        reactor.stop(5)
        assert ended.is_set()
        assert reactor.loop.is_closed()
        reactor.stop(5)

    def test_a_hanging_name_resolution_does_not_stop_others(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = threading.Event()
        real = socket.getaddrinfo

        def resolve(host: str, *rest: Any, **more: Any) -> Any:
            if host == "hangs.invalid":
                gate.wait(20)
                raise socket.gaierror
            return real(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

        async def lookup(host: str) -> Any:
            return await asyncio.get_running_loop().getaddrinfo(host, 80)

        hanging = Call(reactor, lookup("hangs.invalid"))
        assert Call(reactor, lookup("127.0.0.1")).future.result(5)
        gate.set()
        with pytest.raises(socket.gaierror):
            hanging.future.result(5)

    def test_the_executors_threads_are_daemons(self) -> None:
        assert DaemonExecutor(1).submit(lambda: threading.current_thread().daemon).result(5)
        with pytest.raises(ZeroDivisionError):
            DaemonExecutor(1).submit(lambda: 1 // 0).result(5)


class TestHolder:
    def test_the_first_open_starts_it_the_last_close_ends_it(self, name: str) -> None:
        eventually(lambda: engine_threads() == [], message="idle listener threads of tests before are gone")
        one, other = Registry(f"memory://{name}"), Registry(f"memory://{name}")
        assert engine_threads() == []
        one.open()
        other.open()
        assert engine_threads() == ["sofa-registry"]
        one.close()
        assert engine_threads() == ["sofa-registry"]
        other.close()
        eventually(lambda: engine_threads() == [])
        one.close()

    def test_a_hundred_lives_leave_no_thread_and_no_task(self, name: str) -> None:
        for _ in range(100):
            with Registry(f"memory://{name}?leaving=0") as registry:
                registry.publish("a", "h:1")
                registry.subscribe("a", lambda _: None)
        eventually(lambda: engine_threads() == [])
        assert not REACTOR._users
        assert space(name)._feeds == {}
        assert space(name)._sessions == {}

    def test_a_backend_that_cannot_be_made_leaves_no_thread(self) -> None:
        def fail(*_: object) -> object:
            raise Unavailable("not here")

        class Plugin:
            @hookimpl
            def sofa_registry_backends(self) -> list[BackendType]:
                return [BackendType(
                    schemes=("broken",), summary="", grammar="", considerations="", capabilities=BACKEND.capabilities,
                    load=lambda: fail, needs_host=False, defaults={"snapshot": "off"},
                )]  # fmt: skip

        registry = Registry("broken://", plugins=[Plugin()])
        with pytest.raises(Unavailable, match="not here"):
            registry.open()
        eventually(lambda: engine_threads() == [], 2)

    def test_what_was_not_closed_is_withdrawn_at_the_end_of_the_process(self, tmp_path: Any) -> None:
        code = (
            "from sofa_registry_adapters import Registry\n"
            "from sofa_registry_adapters.backends.memory import space\n"
            "import atexit, threading\n"
            "atexit.register(lambda: print('left', len(space('x')._places.read(__import__('sofa_registry_adapters.spi.store', fromlist=['Bucket']).Bucket((), deep=True)))))\n"
            "registry = Registry('memory://x')\n"
            "registry.publish('a', 'h:1')\n"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "left 0\n", "")


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


class TestPool:
    def test_it_has_no_thread_when_idle(self) -> None:
        pool, done = DaemonPool(cap=4, linger=0.05), threading.Semaphore(0)
        assert pool._threads == 0
        for _ in range(20):
            pool.run(done.release)
        for _ in range(20):
            assert done.acquire(timeout=5)
        assert 0 <= pool._threads <= 4
        eventually(lambda: pool._threads == 0 and "sofa-registry-listener" not in engine_threads())

    def test_it_has_as_many_as_there_is_work_and_no_more_than_its_cap(self) -> None:
        pool, gate, running = DaemonPool(cap=3), threading.Event(), threading.Semaphore(0)
        most: list[int] = []

        def work() -> None:
            running.release()
            gate.wait(10)
            most.append(pool._threads)

        for _ in range(10):
            pool.run(work)
        for _ in range(3):
            assert running.acquire(timeout=5)
        assert not running.acquire(blocking=False)
        gate.set()
        eventually(lambda: len(most) == 10)
        assert max(most) == 3

    def test_no_job_is_left_when_a_thread_goes_just_then(self) -> None:
        pool, done = DaemonPool(cap=2, linger=0.0), threading.Semaphore(0)
        for _ in range(500):
            pool.run(done.release)
            assert done.acquire(timeout=5)


class TestWaiting:
    def test_a_bound_says_what_was_being_done(self) -> None:
        async def main() -> None:
            with pytest.raises(DeadlineExceeded, match=r"within 0.01 s while counting sheep"):
                async with bounded(0.01, "counting sheep"):
                    await asyncio.sleep(10)
            with pytest.raises(DeadlineExceeded, match="inner"):
                async with bounded(10, "outer"):
                    raise DeadlineExceeded("inner")
            with pytest.raises(DeadlineExceeded, match="odd"):
                async with bounded(10, "odd"):
                    raise TimeoutError

        asyncio.run(main())

    def test_tasks_are_stopped_even_if_they_swallow_a_cancellation(self) -> None:
        async def main() -> None:
            swallowed: list[int] = []

            async def stubborn() -> None:
                while len(swallowed) < 3:
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        swallowed.append(1)

            task = asyncio.create_task(stubborn())
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await stop_tasks(task, None, asyncio.current_task())
            assert task.done()

        asyncio.run(main())

    def test_an_iterator_is_closed_whatever_ends_it(self) -> None:
        async def main() -> None:
            ended: list[str] = []

            async def numbers() -> AsyncIterator[int]:
                try:
                    yield 1
                    yield 2
                finally:
                    ended.append("closed")

            async with closing(numbers()) as messages:
                assert await anext(messages) == 1
            assert ended == ["closed"]
            plain: Any = iter(())
            async with closing(plain) as messages:
                assert messages is plain

        asyncio.run(main())


class TestWorker:
    def test_calls_run_one_after_another_on_a_daemon(self) -> None:
        async def main() -> None:
            worker = Worker("worker-of-a-test")
            assert await worker.run(threading.current_thread) is not threading.current_thread()
            assert (await worker.run(threading.current_thread)).daemon
            with pytest.raises(ZeroDivisionError):
                await worker.run(lambda: 1 // 0)
            order: list[int] = []
            await asyncio.gather(*(worker.run(order.append, number) for number in range(50)))
            assert order == list(range(50))
            worker.stop()
            worker.stop()
            assert await worker.run(lambda: 5) == 5
            worker.stop()

        asyncio.run(main())
        eventually(lambda: "worker-of-a-test" not in [thread.name for thread in threading.enumerate()])

    def test_who_goes_first_does_not_starve_the_others(self) -> None:
        async def main() -> None:
            worker, gate, order = Worker("worker-of-a-test"), threading.Event(), list[str]()
            began = threading.Event()
            busy = asyncio.create_task(worker.run(lambda: (began.set(), gate.wait(10))))
            await eventually_async(began.is_set)
            calls = [worker.run(order.append, "other") for _ in range(3)]
            calls += [worker.run(order.append, "first", first=True) for _ in range(5)]
            tasks = [asyncio.create_task(one) for one in calls]
            await asyncio.sleep(0)
            worker.stop()
            gate.set()
            async with asyncio.timeout(10):
                await asyncio.gather(busy, *tasks)
            assert order == ["first", "other", "first", "other", "first", "other", "first", "first"]

        asyncio.run(main())

    def test_a_result_that_nobody_waits_for_is_dropped(self) -> None:
        gate, began = threading.Event(), threading.Event()
        worker = Worker("worker-of-a-test")

        def slow() -> None:
            began.set()
            gate.wait(10)

        async def main() -> None:
            task = asyncio.create_task(worker.run(slow))
            await eventually_async(began.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        gate.set()
        worker.stop()
        eventually(lambda: "worker-of-a-test" not in [thread.name for thread in threading.enumerate()])
