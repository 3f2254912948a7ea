"""Delivery to listeners: one mailbox each, the latest state only, one call at a time, never under a lock."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.reactor import DaemonPool
from sofa_registry_adapters.errors import Closed, DeadlineExceeded, InvalidArgument
from sofa_registry_adapters.model.events import Event, ListenerFailed
from sofa_registry_adapters.model.guarded import Guarded
from sofa_registry_adapters.model.views import Delta, InstancesChange, Source

C = TypeVar("C")
E = TypeVar("E", bound=Event)
EVENTS_KEPT = 1000
"""Events that wait for one slow listener; older ones are dropped and counted."""

Listener = Callable[[Any], object]


class Courier(Protocol):
    """Where listeners run: threads of ours, or the application's event loop."""

    def carry(self, step: Callable[[], Any | None], listener: Listener, failed: Failed) -> None:
        """Call ``listener`` with what ``step`` returns until that is None. Raises `Closed` if it never can again."""
        ...


Failed = Callable[[Listener, BaseException], None]


class ThreadCourier:
    """Calls blocking listeners on a pool of daemon threads."""

    def __init__(self) -> None:
        self._pool = DaemonPool()

    def carry(self, step: Callable[[], Any | None], listener: Listener, failed: Failed) -> None:
        def work() -> None:
            while (item := step()) is not None:
                call(listener, item, failed)

        self._pool.run(work)


class LoopCourier:
    """Calls listeners, plain or async, on an application's event loop: by default the caller's."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def carry(self, step: Callable[[], Any | None], listener: Listener, failed: Failed) -> None:
        async def work() -> None:
            while (item := step()) is not None:
                await call_async(listener, item, failed)

        def start() -> None:
            task = self._loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:
            raise Closed("the event loop of the listener was closed") from None


def call(listener: Listener, item: object, failed: Failed) -> None:
    """Call a blocking listener; what it raises is reported, not raised."""
    try:
        _refuse_coroutine(listener(item))
    except BaseException as error:  # noqa: BLE001  a listener may raise anything, and the thread is ours
        failed(listener, error)


def call_once(listener: Listener, item: object, failed: Failed) -> None:
    """`call` in the caller's own thread, where an interruption is the caller's."""
    try:
        _refuse_coroutine(listener(item))
    except Exception as error:  # noqa: BLE001  a listener may raise anything
        failed(listener, error)


def _refuse_coroutine(answer: object) -> None:
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("it returned a coroutine, which nobody awaits here")


async def call_async(listener: Listener, item: object, failed: Failed) -> None:
    """Call a listener that may be async; what it raises is reported, not raised."""
    try:
        answer = listener(item)
        if inspect.isawaitable(answer):
            await answer
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        failed(listener, error)
    except Exception as error:  # noqa: BLE001  a listener may raise anything
        failed(listener, error)


def check_listener(listener: object, *, asynchronous: bool) -> Listener:
    """The listener, if it can be called here. Raises `InvalidArgument`."""
    if not callable(listener):
        raise InvalidArgument(f"a listener must be callable, not {type(listener).__name__}: {listener!r:.60}")
    if not asynchronous and (inspect.iscoroutinefunction(listener) or _is_called_async(listener)):
        raise InvalidArgument(
            "a listener of a blocking Registry or ConfigCenter must be a plain function: use AsyncRegistry, AsyncConfigCenter"
        )
    return listener


def _is_called_async(listener: Any) -> bool:
    return inspect.iscoroutinefunction(type(listener).__call__)


class Pending(ABC, Generic[C]):
    """What one listener, or one loop, has not seen yet of something that changes, folded into one change."""

    def __init__(self, source: Guarded, about: object, forget: Callable[[Any], None], *, known: bool) -> None:
        self.closed: bool = False
        self.about: Any = about
        """What it is that changes, for messages."""
        self._guard = source
        self._forget = forget
        self._news = known
        self._wake: Callable[[], None] | None = None
        self._awake = False

    @abstractmethod
    def _take_locked(self) -> C:
        """The change since the last one taken. There is news, and the source is locked."""

    def nudge(self) -> None:
        """After the lock: have the change fetched, unless that is under way."""
        with self._guard.locked():
            if self._wake is None or self._awake or self.closed or not self._news:
                return
            self._awake = True
            wake = self._wake
        try:
            wake()
        except Closed:
            self.close()
        except RuntimeError:
            # No thread is to be had; the next change tries again.
            with self._guard.locked():
                self._awake = False

    def take(self) -> C | None:
        """The change since the last one taken; None if there is none, which ends the fetching."""
        with self._guard.locked():
            if self.closed or not self._news:
                self._awake = False
                return None
            self._news = False
            return self._take_locked()

    def deliver(self, courier: Courier, listener: Listener, failed: Failed) -> None:
        """From now on, hand changes to ``listener``."""
        self.on_news(lambda: courier.carry(self.take, listener, failed))

    def on_news(self, wake: Callable[[], None]) -> None:
        """From now on, call ``wake`` when there is a change; it must lead to `take` until that is None."""
        with self._guard.locked():
            self._wake = wake
        self.nudge()

    def close(self) -> None:
        """No further change is handed out. Any thread, any number of times, inside a listener too."""
        with self._guard.locked():
            if self.closed:
                return
            self.closed = True
            wake = self._wake
        self._forget(self)
        if wake is not None:
            self._finish(wake)

    @staticmethod
    def _finish(wake: Callable[[], None]) -> None:
        try:
            wake()
        except Closed:
            return


class Mailbox(Pending[InstancesChange]):
    """The changes of one service."""

    def __init__(self, source: Source, forget: Callable[[Mailbox], None], *, known: bool) -> None:
        super().__init__(source, source.service, forget, known=known)
        self.source = source
        self._delta = Delta(source.instances.values())

    def put_locked(self, delta: Delta, *, flags: bool) -> None:
        """Under the source's lock: fold a change in. ``flags``: stale or protected changed."""
        if delta:
            self._delta.fold(delta)
        self._news = self._news or flags or bool(delta)

    def _take_locked(self) -> InstancesChange:
        delta, self._delta = self._delta, Delta()
        return delta.change(self.source.view_locked())


class BlockingInbox(Generic[C]):
    """A mailbox that a thread waits on."""

    def __init__(self, mailbox: Pending[C]) -> None:
        self.mailbox = mailbox
        self._ready = threading.Event()
        mailbox.on_news(self._ready.set)

    def next(self, timeout: float | None = None) -> C | None:
        """The next change; None once it is closed. Raises `DeadlineExceeded`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.mailbox.closed:
            self._ready.clear()
            change = self.mailbox.take()
            if change is not None:
                return change
            # Looked at again after the clearing: a close in between has been there.
            if self._ended():
                return None
            if not self._ready.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
                raise DeadlineExceeded(f"no change of {self.mailbox.about} within {timeout:g} s")
        return None

    def _ended(self) -> bool:
        return self.mailbox.closed

    def close(self) -> None:
        """End the wait of every thread."""
        self.mailbox.close()
        self._ready.set()


class AsyncInbox(Generic[C]):
    """A mailbox that a task on the application's event loop waits on."""

    def __init__(self, mailbox: Pending[C], loop: asyncio.AbstractEventLoop) -> None:
        self.mailbox = mailbox
        self._loop = loop
        self._ready = asyncio.Event()
        mailbox.on_news(self._wake)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:
            raise Closed("the event loop of the watch was closed") from None

    async def next(self, timeout: float | None = None) -> C | None:
        """The next change; None once it is closed. Raises `DeadlineExceeded`."""
        try:
            async with asyncio.timeout(timeout):
                return await self._next()
        except TimeoutError:
            raise DeadlineExceeded(f"no change of {self.mailbox.about} within {timeout:g} s") from None

    async def _next(self) -> C | None:
        while not self.mailbox.closed:
            self._ready.clear()
            change = self.mailbox.take()
            if change is not None:
                return change
            if self._ended():
                return None
            await self._ready.wait()
        return None

    def _ended(self) -> bool:
        return self.mailbox.closed

    def close(self) -> None:
        """End the wait."""
        self.mailbox.close()


class EventSubscription:
    """A listener's place on the bus; `close` ends it."""

    def __init__(
        self,
        kind: type[Event],
        listener: Listener,
        courier: Courier,
        failed: Failed,
        forget: Callable[..., None],
    ) -> None:
        self.kind = kind
        self.dropped: int = 0
        """Events that this listener was too slow for."""
        self._listener = listener
        self._courier = courier
        self._failed = failed
        self._forget = forget
        self._queue: deque[Event] = deque()
        self._lock = threading.Lock()
        self._awake = False
        self._closed = False

    def calls(self, listener: Listener) -> bool:
        """Whether this is the place of ``listener``."""
        return self._listener == listener

    def put(self, event: Event) -> None:
        """Queue the event. Never blocks, never raises."""
        with self._lock:
            if self._closed:
                return
            self._queue.append(event)
            if len(self._queue) > EVENTS_KEPT:
                self._queue.popleft()
                self.dropped += 1
            if self._awake:
                return
            self._awake = True
        try:
            self._courier.carry(self._take, self._listener, self._failed)
        except Closed:
            self.close()
        except RuntimeError:
            # No thread is to be had; the next event tries again.
            with self._lock:
                self._awake = False

    def _take(self) -> Event | None:
        with self._lock:
            if self._closed or not self._queue:
                self._awake = False
                return None
            return self._queue.popleft()

    def close(self) -> None:
        """The listener is not called again. Any thread, any number of times."""
        with self._lock:
            self._closed = True
            self._queue.clear()
        self._forget(self)


class Events:
    """The typed event bus of one Registry or ConfigCenter. A slow, failing or re-entrant listener harms nobody."""

    def __init__(self, courier: Courier, *, asynchronous: bool = False) -> None:
        self.courier = courier
        self._asynchronous = asynchronous
        self._subscriptions: tuple[EventSubscription, ...] = ()
        self._lock = threading.Lock()

    def on(self, kind: type[E], listener: Callable[[E], object]) -> EventSubscription:
        """Call ``listener`` with each event of ``kind``, subclasses included, one at a time, in order.

        Up to 1 000 events wait for a slow listener, then the oldest are dropped and counted.
        """
        given: object = kind
        if not (isinstance(given, type) and issubclass(given, Event)):
            raise InvalidArgument(f"events are subscribed to by their class, not by {kind!r:.60}")
        checked = check_listener(listener, asynchronous=self._asynchronous)
        subscription = EventSubscription(kind, checked, self.courier, self.failed, self._forget)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def wanted(self, kind: type[Event]) -> bool:
        """Whether anybody listens to events of ``kind``."""
        return any(issubclass(kind, one.kind) for one in self._subscriptions)

    def emit(self, event: Event) -> None:
        """Hand the event to every listener that wants it. Never blocks, never raises."""
        for subscription in self._subscriptions:
            if isinstance(event, subscription.kind):
                subscription.put(event)

    def failed(self, listener: Listener, error: BaseException) -> None:
        """Report a listener that raised."""
        name = getattr(listener, "__qualname__", repr(listener))
        reason = f"{type(error).__name__}: {error}"
        logger.warning("the listener %s raised %s", name, reason)
        # A listener of failures that fails itself would be told of it for ever.
        if not any(issubclass(ListenerFailed, one.kind) and one.calls(listener) for one in self._subscriptions):
            self.emit(ListenerFailed(name, reason))

    def _forget(self, subscription: EventSubscription) -> None:
        with self._lock:
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)
