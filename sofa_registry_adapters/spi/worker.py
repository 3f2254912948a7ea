"""A daemon thread for blocking calls of client libraries: never the loop's default executor, which delays exit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar, cast

from sofa_registry_adapters.errors import Unavailable

T = TypeVar("T")


def started(thread: threading.Thread) -> threading.Thread:
    """The thread, started. Raises `Unavailable` if the system, or what limits the process, has none to give just now."""
    try:
        thread.start()
    except RuntimeError as error:
        raise Unavailable(f"the thread {thread.name} cannot be started: {error}; see ulimit -u and pids.max") from error
    return thread


class Worker:
    """One daemon thread that runs calls one after another for an event loop.

    A call that hangs harms neither the loop nor the end of the process; the caller bounds its own
    wait. A call whose caller went away before it began is dropped, one that runs goes on to its end.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls = _Calls()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether there is a thread, which may have calls that nobody waits for any more."""
        return self._thread is not None

    async def run(self, function: Callable[..., T], *args: object, first: bool = False) -> T:
        """Run ``function`` on the thread and return what it returned, or raise what it raised.

        Raises `Unavailable` if there is no thread for it at present; the next call tries again.
        With ``first`` it goes before all calls that wait, but for one of them after each that went first: however slow those
        are, the others get on.
        """
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
            self._calls = _Calls()
            thread = threading.Thread(target=_work, args=(self._calls,), name=self._name, daemon=True)
            self._thread = started(thread)
        calls = self._calls
        calls.put(call, first=first)
        try:
            return await answer
        except asyncio.CancelledError:
            # Behind a call that hangs they would become more and more.
            calls.discard(call)
            raise

    def stop(self) -> None:
        """Let the thread end after the calls it already has. Never blocks; may be called twice."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None


class _Calls:
    """Calls that wait, some before all others."""

    def __init__(self) -> None:
        # Its `put` never blocks, in a forked child neither. It has a mark for each call, in whichever of the two rows.
        self._marks: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._first: deque[Callable[[], None] | None] = deque()
        self._others: deque[Callable[[], None] | None] = deque()
        self._went_first = False

    def put(self, call: Callable[[], None] | None, *, first: bool = False) -> None:
        (self._first if first else self._others).append(call)
        self._marks.put(None)

    def discard(self, call: Callable[[], None]) -> None:
        """Take a call out again if it has not begun. Its mark stays, and leads to none."""
        for row in (self._first, self._others):
            with contextlib.suppress(ValueError, IndexError):
                row.remove(call)

    def get(self) -> Callable[[], None] | None:
        while True:
            self._marks.get()
            # Two rows may become shorter at any moment, each by a call whose mark is left over then.
            with contextlib.suppress(IndexError):
                return self._next()

    def _next(self) -> Callable[[], None] | None:
        # The mark to stop comes after all calls there are.
        others_wait = bool(self._others) and self._others[0] is not None
        self._went_first = bool(self._first) and not (self._went_first and others_wait)
        return (self._first if self._went_first else self._others).popleft()


def _work(calls: _Calls) -> None:
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
