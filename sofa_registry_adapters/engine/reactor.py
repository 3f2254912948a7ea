"""The engine's own thread and event loop: a heartbeat must not share a scheduler with the work it certifies."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.errors import Closed, DeadlineExceeded, Unavailable
from sofa_registry_adapters.spi.worker import started

T = TypeVar("T")
EXIT_WITHIN = 2.2
"""Seconds that the end of the process may take to withdraw what was not closed."""
STALLED = 0.003
"""Seconds without a job taken up after which the threads of a pool need one more."""


class DaemonExecutor(ThreadPoolExecutor):
    """The loop's executor for name resolution: a daemon thread a call, so that a hung one delays no exit."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        answer: Future[T] = Future()

        def run() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  it belongs to the caller
                answer.set_exception(error)

        threading.Thread(target=run, name="sofa-registry-resolve", daemon=True).start()
        return answer


class Reactor:
    """A daemon thread with a selector loop, whatever policy the application installed."""

    def __init__(self) -> None:
        self.loop: asyncio.SelectorEventLoop = asyncio.SelectorEventLoop()
        self.loop.set_default_executor(DaemonExecutor(1))
        self.calls: set[Call[Any]] = set()
        """Those that are not answered yet."""
        self.over = False
        """Whether no call begins any more."""
        self._thread = threading.Thread(target=self._run, name="sofa-registry", daemon=True)
        try:
            started(self._thread)
        except Unavailable:
            self.loop.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.over = True
        pending = asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(stop_tasks(*pending))
        # Nobody is told how they ended.
        self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        # The loop took them between its last turn and its end.
        for call in tuple(self.calls):
            call.forget()

    def inside(self) -> bool:
        """Whether the caller runs on the engine's thread."""
        return threading.current_thread() is self._thread

    def stop(self, wait: float) -> None:
        """End the thread, and wait up to ``wait`` seconds for that."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        if wait and not self.inside():
            self._thread.join(wait)


class Call(Generic[T]):
    """A coroutine on the engine's loop, and a caller elsewhere who may give up at any moment.

    A result that the caller did not get is handed to ``undo``, on the loop: nothing is left behind.
    """

    def __init__(
        self, reactor: Reactor, work: Coroutine[Any, Any, T], undo: Callable[[T], object] | None = None
    ) -> None:
        self.future: Future[T] = Future()
        self._reactor = reactor
        self._work = work
        self._undo = undo
        self._task: asyncio.Task[T] | None = None
        self._abandoned = False
        reactor.calls.add(self)
        try:
            reactor.loop.call_soon_threadsafe(self._start)
        except RuntimeError:
            self.forget()
            raise Closed("it was closed: make a new one") from None

    def abandon(self) -> None:
        """The caller is not interested any more. Any thread."""
        with contextlib.suppress(RuntimeError):
            self._reactor.loop.call_soon_threadsafe(self._drop)

    def forget(self) -> None:
        """The loop has ended: nobody will answer."""
        self._reactor.calls.discard(self)
        if self._task is None:
            self._work.close()
        self.future.cancel()

    def _start(self) -> None:
        if self._reactor.over:
            self.forget()
            return
        self._task = self._reactor.loop.create_task(self._work)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[T]) -> None:
        self._reactor.calls.discard(self)
        if self._abandoned:
            self._clean(task)
        elif task.cancelled():
            self.future.cancel()
        elif self.future.set_running_or_notify_cancel():
            if (error := task.exception()) is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(task.result())

    def _drop(self) -> None:
        if self._abandoned or self._task is None:
            return
        self._abandoned = True
        if self._task.done():
            self._clean(self._task)
        else:
            self._task.cancel()

    def _clean(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is None and self._undo is not None:
            self._undo(task.result())


class Closable(Protocol):
    """What is closed in good order when the process ends."""

    async def close(self) -> None:
        """Close, within a bound."""
        ...


class _Holder:
    """The one reactor of a process. A child of a fork makes its own and leaves the parent's alone."""

    def __init__(self) -> None:
        # A signal handler may come while its own thread holds it.
        self._lock = threading.RLock()
        self._current: Reactor | None = None
        self._users: dict[Closable, frozenset[str]] = {}
        self._watching_exit = False
        self.broken: frozenset[str] = frozenset()
        """Client libraries that were in use when this process was forked, and do not survive that."""
        # Inherited through a fork: kept for ever, because finalising a parent's handles would write to them.
        self._inherited: list[object] = []

    def acquire(self, user: Callable[[], Closable], fragile: frozenset[str] = frozenset()) -> tuple[Reactor, Closable]:
        """The reactor, started if need be, and what ``user`` makes for it. `release` gives it back.

        ``fragile`` are client libraries that do not survive a fork while it is in use. Raises `Unavailable` without a thread.
        """
        # Not under the lock: it may be somebody else's code, which opens or closes a Registry of its own.
        made = user()
        with self._lock:
            # First of all: a signal handler that closes another one must not end the reactor under this one.
            self._users[made] = fragile
            try:
                if self._current is None:
                    self._current = Reactor()
            except BaseException:
                del self._users[made]
                raise
            if not self._watching_exit:
                self._watch_exit()
            return self._current, made

    def release(self, user: Closable, wait: float) -> None:
        """The user is done; the last one ends the reactor."""
        with self._lock:
            self._users.pop(user, None)
            reactor = self._current
            if self._users or reactor is None:
                return
            self._current = None
        reactor.stop(wait)

    def after_fork(self) -> None:
        """In the child: forget the parent's thread, its users and its lock."""
        self._lock = threading.RLock()
        self._inherited.append((self._current, self._users))
        self.broken = self.broken.union(*self._users.values())
        self._current, self._users = None, {}
        self._watching_exit = False

    def _watch_exit(self) -> None:
        self._watching_exit = True
        # In the child of a fork it is known already.
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)
        if "multiprocessing.process" in sys.modules:
            from multiprocessing import parent_process, util

            # Its children end without atexit, and call what is known to it.
            if parent_process() is not None:
                util.Finalize(None, self._at_exit, exitpriority=0)

    def _at_exit(self) -> None:
        """Withdraw what was never closed; a process that ends in good order says so."""
        reactor, users = self._current, tuple(self._users)
        if reactor is None or not users:
            return

        async def close() -> None:
            await asyncio.gather(*(user.close() for user in users), return_exceptions=True)

        with contextlib.suppress(TimeoutError, RuntimeError):
            Call(reactor, close()).future.result(EXIT_WITHIN)


REACTOR = _Holder()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=REACTOR.after_fork)


class Closing(Generic[T]):
    """Iterate, and close the iterator at the end, whatever ends it."""

    __slots__ = ("_messages",)

    def __init__(self, messages: AsyncIterator[T]) -> None:
        self._messages = messages

    async def __aenter__(self) -> AsyncIterator[T]:
        return self._messages

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._messages, AsyncGenerator):
            await self._messages.aclose()


@contextlib.asynccontextmanager
async def bounded(seconds: float, doing: str, of: float = 0.0) -> AsyncIterator[None]:
    """Raise `DeadlineExceeded`, with what was being done, unless the body ends within ``seconds``.

    ``of``: the time-out that these seconds are the rest of, for the message. A cancellation that nobody asked this task for is
    `Unavailable`: so client libraries end the calls of a connection that they close.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except DeadlineExceeded:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable(f"{doing} was given up by the backend itself") from None
    except TimeoutError:
        raise DeadlineExceeded(f"no answer within {of or seconds:g} s while {doing}") from None


async def stop_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks until they are done: `asyncio.wait_for` may swallow a cancellation on Python 3.11."""
    waiting = {task for task in tasks if task is not None and not task.done() and task is not asyncio.current_task()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.1)


class DaemonPool:
    """Daemon threads for blocking listeners: none when idle, at most ``cap``.

    A further thread steps in only when those that are there took up nothing for `STALLED` seconds: a thousand short jobs are done
    by one thread, which nobody takes the interpreter's lock from, and a job that blocks delays the others by that time.
    """

    def __init__(self, cap: int = 32, linger: float = 0.2) -> None:
        self._cap = cap
        self._linger = linger
        self._jobs: deque[Callable[[], None]] = deque()
        self._ready = threading.Condition()
        self._threads = 0
        self._free = 0
        self._taken = 0
        self._standby = False
        """Whether a further thread is there and looks whether it is needed."""

    def run(self, job: Callable[[], None]) -> None:
        """Run ``job`` soon, on some thread of the pool. Raises RuntimeError if no thread is to be had for it."""
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()
        try:
            self._reinforce()
        except RuntimeError:
            with self._ready:
                # Those that are there come to it.
                if self._threads or job not in self._jobs:
                    return
                self._jobs.remove(job)
            raise

    def _reinforce(self) -> None:
        """Have one more thread, if there is more to do than there are free ones. Raises RuntimeError if it cannot be had."""
        with self._ready:
            if len(self._jobs) <= self._free or self._standby or self._threads >= self._cap:
                return
            first = not self._threads
            self._threads += 1
            self._standby = not first
        try:
            work = self._work if first else self._stand_by
            threading.Thread(target=work, name="sofa-registry-listener", daemon=True).start()
        except RuntimeError:
            with self._ready:
                self._threads -= 1
                self._standby = False
            raise

    def _stand_by(self) -> None:
        needed = False
        while not needed:
            before = self._taken
            time.sleep(STALLED)
            with self._ready:
                needed = self._taken == before or not self._jobs
                self._standby = not needed
        self._work()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            # Should this one block, somebody has to be there for the rest; if nobody can be, the rest waits.
            with contextlib.suppress(RuntimeError):
                self._reinforce()
            try:
                job()
            except BaseException:  # noqa: BLE001  the thread goes on to the next job
                logger.exception("a listener's job failed in a way that is a defect")

    def _next(self) -> Callable[[], None] | None:
        with self._ready:
            self._free += 1
            if not self._jobs:
                self._ready.wait(self._linger)
            self._free -= 1
            if self._jobs:
                self._taken += 1
                return self._jobs.popleft()
            self._threads -= 1
            return None
