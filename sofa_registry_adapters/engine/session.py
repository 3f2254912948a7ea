"""From a checked target to a running engine, in this process; never shared with a parent or a child."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar, cast

from sofa_registry_adapters.engine.core import Engine
from sofa_registry_adapters.engine.mailbox import Events
from sofa_registry_adapters.engine.plugins import factory
from sofa_registry_adapters.engine.reactor import REACTOR, Call, Reactor
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import Closed, DeadlineExceeded, Unsupported, WrongThread
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.options import BackendType, Target
from sofa_registry_adapters.spi.registry import RegistryBackend

T = TypeVar("T")
GRACE = 1.0
"""Seconds beyond a call's own bound before the caller stops waiting for the engine's thread."""


class Session:
    """One engine on the process's reactor."""

    def __init__(
        self, backend: BackendType, layout: type[ServiceLayout], target: Target, clock: Clock, events: Events
    ) -> None:
        _refuse_green_threads()
        # The client library is imported here, in the caller's thread: the engine's loop never stops for it.
        make = factory(backend)
        self.pid: int = os.getpid()
        self.events = events

        def engine() -> Engine:
            product = make(target, clock)  # type: ignore[operator]
            whole = StoreRegistry(product, layout(), target.number("call_timeout")) if backend.store else product
            return Engine(cast("RegistryBackend", whole), target, clock, events, secrets.token_hex(8))

        self.reactor: Reactor
        self.reactor, made = REACTOR.acquire(engine)
        self.engine: Engine = cast("Engine", made)
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

    def release(self, wait: float = 0.0) -> None:
        """The engine was closed; the last one waits up to ``wait`` seconds for the reactor's end."""
        REACTOR.release(self.engine, wait)


def closed_meanwhile() -> Closed:
    """What a verb raises when the Registry is closed under it."""
    return Closed("the registry was closed while the call was under way")


def _refuse_green_threads() -> None:
    gevent = sys.modules.get("gevent.monkey")
    eventlet = sys.modules.get("eventlet.patcher")
    if (gevent is not None and gevent.is_module_patched("threading")) or (
        eventlet is not None and eventlet.is_monkey_patched("thread")
    ):
        raise Unsupported(
            "threading is patched by gevent or eventlet, and a heartbeat on a green thread stops when the "
            "application does not yield: leave 'thread' out of the patch, or open the Registry in a process of its own"
        )
