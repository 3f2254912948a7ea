"""From a checked target to a running engine, in this process; never shared with a parent or a child."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, Protocol, TypeVar, cast

from sofa_registry_adapters.engine.mailbox import Events
from sofa_registry_adapters.engine.reactor import REACTOR, Call, Closable, Reactor
from sofa_registry_adapters.errors import Closed, DeadlineExceeded, ForkUnsupported, Unsupported, WrongThread

T = TypeVar("T")
GRACE = 1.0
"""Seconds beyond a call's own bound before the caller stops waiting for the engine's thread."""


class Startable(Closable, Protocol):
    """An engine."""

    async def start(self) -> None:
        """Begin to connect; does not wait for it."""
        ...


E = TypeVar("E", bound=Startable)


class Session(Generic[E]):
    """One engine on the process's reactor.

    ``prepare`` imports what is needed, in the caller's thread, and returns how to make the engine. ``fragile`` are the client
    libraries that do not survive a fork while the engine is there.
    """

    def __init__(
        self, events: Events, prepare: Callable[[], Callable[[], E]], fragile: frozenset[str] = frozenset()
    ) -> None:
        _refuse_green_threads()
        _refuse_broken(fragile)
        # The client library is imported here: the engine's loop never stops for it.
        make = prepare()
        self.pid: int = os.getpid()
        self.events = events
        self.reactor: Reactor
        self.reactor, made = REACTOR.acquire(make, fragile)
        self.engine: E = cast("E", made)
        Call(self.reactor, self.engine.start())

    def call(self, work: Coroutine[Any, Any, T], undo: Any = None) -> Call[T]:
        """Run a verb of the engine."""
        return Call(self.reactor, work, undo)

    def check_thread(self) -> None:
        """Raise `WrongThread` on the engine's own thread."""
        if self.reactor.inside():
            raise WrongThread(
                "a blocking verb was called on the engine's own thread, where it would wait for itself: "
                "call it from another thread"
            )

    def run(self, work: Coroutine[Any, Any, T], timeout: float, undo: Any = None) -> T:
        """Run a verb of the engine and wait for it; an interrupted wait leaves nothing behind."""
        try:
            self.check_thread()
        except WrongThread:
            work.close()
            raise
        call = self.call(work, undo)
        try:
            return call.future.result(timeout + GRACE)
        except CancelledError:
            raise closed_meanwhile() from None
        except FutureTimeoutError:
            if call.future.done():
                raise
            call.abandon()
            raise DeadlineExceeded(f"the engine gave no answer within {timeout + GRACE:g} s") from None
        except BaseException:
            call.abandon()
            raise

    @contextlib.contextmanager
    def ending(self, wait: float = 0.0) -> Iterator[None]:
        """Around the wait for the engine's close, however that ends. The last engine waits ``wait`` seconds for the reactor's end."""
        try:
            yield
        except Exception:
            self.release(wait)
            raise
        except BaseException:
            self._close_behind()
            raise
        self.release(wait)

    def _close_behind(self) -> None:
        """Close the engine though nobody waits for it any more: a wait that is cut short must leave nothing published."""
        try:
            call = self.call(self.engine.close())
        except Closed:
            self.release()
        else:
            call.future.add_done_callback(lambda _: self.release())

    def release(self, wait: float = 0.0) -> None:
        """The engine was closed; the last one waits up to ``wait`` seconds for the reactor's end."""
        REACTOR.release(self.engine, wait)


def closed_meanwhile() -> Closed:
    """What a verb raises when its Registry or ConfigCenter is closed under it."""
    return Closed("it was closed while the call was under way")


def _refuse_broken(libraries: frozenset[str]) -> None:
    if broken := libraries & REACTOR.broken:
        raise ForkUnsupported(
            "this process was forked from one that was connected, and the client library "
            f"({', '.join(sorted(broken))}) does not survive that: open the Registry in the children only, after the fork, "
            "or start them with 'spawn' or 'forkserver'"
        )


def _refuse_green_threads() -> None:
    gevent = sys.modules.get("gevent.monkey")
    eventlet = sys.modules.get("eventlet.patcher")
    if (gevent is not None and gevent.is_module_patched("threading")) or (
        eventlet is not None and eventlet.is_monkey_patched("thread")
    ):
        raise Unsupported(
            "threading is patched by gevent or eventlet, and a heartbeat on a green thread stops when the "
            "application does not yield: leave 'thread' out of the patch, or open it in a process of its own"
        )
