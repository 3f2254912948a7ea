"""A daemon thread for blocking calls of client libraries: never the loop's default executor, which delays exit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


class Worker:
    """One daemon thread that runs calls one after another for an event loop.

    A call that hangs harms neither the loop nor the end of the process; the caller bounds its own
    wait. A call whose caller went away before it began is dropped, one that runs goes on to its end.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run ``function`` on the thread and return what it returned, or raise what it raised."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def call() -> None:
            if answer.cancelled():
                return
            try:
                result = function(*args)
            except BaseException as error:  # noqa: BLE001  it belongs to the caller
                _tell(loop, answer, None, error)
            else:
                _tell(loop, answer, result, None)

        if self._thread is None:
            # A queue a thread: a mark to stop never reaches the next one.
            self._calls = queue.SimpleQueue()
            self._thread = threading.Thread(target=_work, args=(self._calls,), name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(call)
        return await answer

    def stop(self) -> None:
        """Let the thread end after the calls it already has. Never blocks; may be called twice."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None


def _work(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], result: T | None, error: BaseException | None
) -> None:
    def settle() -> None:
        if answer.cancelled():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("T", result))

    # The loop may be closed by now: then nobody waits any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
