"""The engine's thread: calls that are given up leave nothing behind, and the last close ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from engine_thread import engine_threads, name

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.memory import BACKEND, space
from sofa_registry_adapters.engine.reactor import REACTOR, Call, DaemonExecutor, Reactor
from sofa_registry_adapters.errors import Closed, Unavailable
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType
from sofa_registry_adapters.testing.faults import eventually

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name"]


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.stop(5)
    assert not made._thread.is_alive()


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

    def test_its_end_is_quiet_and_cannot_be_refused(self, caplog: pytest.LogCaptureFixture) -> None:
        reactor = Reactor()
        tasks: list[asyncio.Task[None]] = []

        async def stubborn(refusals: int) -> None:
            for _ in range(refusals):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
            raise OSError("the goodbye could not be sent")

        async def begin() -> None:
            tasks.extend(asyncio.create_task(stubborn(refusals)) for refusals in (1, 2))
            await asyncio.sleep(0.02)

        Call(reactor, begin()).future.result(5)
        reactor.stop(5)
        assert not reactor._thread.is_alive()
        assert all(task.done() for task in tasks)
        tasks.clear()
        gc.collect()
        assert not caplog.records

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
