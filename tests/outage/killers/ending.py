"""A program that publishes, and ends in the way that its plan says; see `sofa_registry_adapters.testing.provider.Plan`.

It writes ``live`` when it is published, and ends when it gets SIGUSR1, unless its way to end is another signal.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from sofa_registry_adapters.config import ConfigCenter
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.registry import AsyncRegistry, Registry
from sofa_registry_adapters.testing.provider import Plan, say

GO = threading.Event()
FOR_EVER = 3600.0
ENTER = 0.3
"""Seconds for a thread to get into its call."""


def live(plan: Plan, registry: Registry | None = None) -> Registry:
    """Publish, and wait to be told to go on."""
    registry = registry or plan.registry()
    plan.publish(registry)
    say("live")
    GO.wait()
    return registry


# In good order.


def returns(plan: Plan) -> None:
    """The program is over."""
    live(plan)


def exits(plan: Plan) -> None:
    """sys.exit with a status."""
    live(plan)
    sys.exit(3)


def raises(plan: Plan) -> None:
    """An error that nobody catches."""
    live(plan)
    raise RuntimeError("the end")


def interrupted(plan: Plan) -> None:
    """Ctrl-C."""
    live(plan)


def handled(plan: Plan) -> None:
    """SIGTERM, for which there is a handler."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    live(plan)


def interrupts_main(plan: Plan) -> None:
    """A thread interrupts the main one."""
    threading.Thread(target=lambda: GO.wait() and _thread.interrupt_main()).start()
    registry = plan.registry()
    plan.publish(registry)
    say("live")
    while True:
        # Nothing interrupts a sleep but a real signal.
        time.sleep(0.05)


async def _published(plan: Plan) -> AsyncRegistry:
    registry = AsyncRegistry(plan.url, options=plan.options)
    await registry.publish(plan.service, plan.address, timeout=20.0)
    say("live")
    await asyncio.to_thread(GO.wait)
    return registry


def async_returns(plan: Plan) -> None:
    """An event loop that is over; nothing was closed."""
    asyncio.run(_published(plan))


def async_raises(plan: Plan) -> None:
    """An error that ends an event loop."""

    async def work() -> None:
        await _published(plan)
        raise RuntimeError("the end")

    asyncio.run(work())


def with_everything(plan: Plan) -> None:
    """A configuration center, a subscription and a watch are open as well."""
    registry = plan.registry()
    center = ConfigCenter(plan.url, options=plan.options)
    center.add_listener("killers", lambda _: None, timeout=20.0)
    registry.subscribe(plan.service, lambda _: None, timeout=20.0)
    watch = registry.watch(plan.service, timeout=20.0)
    watch.next(20.0)
    live(plan, registry)


def at_exit(plan: Plan) -> None:
    """Functions of the application run at exit, one before and one after the library's own; both use the registry."""
    registry = plan.registry()

    def use() -> None:
        began = time.monotonic()
        for verb in (
            lambda: registry.lookup("unwatched", timeout=1.0),
            lambda: registry.publish("late", plan.address, timeout=1.0),
            lambda: registry.subscribe("late", lambda _: None, timeout=1.0),
        ):
            try:
                verb()
            except RegistryError as error:
                say("at exit", type(error).__name__)
            else:
                say("at exit done")
        if time.monotonic() - began > 3.0:
            say("at exit it took too long")

    atexit.register(use)
    live(plan, registry)
    atexit.register(use)


# Without a word.


def terminated(plan: Plan) -> None:
    """SIGTERM, for which there is no handler."""
    live(plan)


def leaves(plan: Plan) -> None:
    """os._exit."""
    live(plan)
    os._exit(4)


def thread_leaves(plan: Plan) -> None:
    """os._exit, from another thread than the main one."""
    threading.Thread(target=lambda: GO.wait() and os._exit(4)).start()
    live(plan)
    time.sleep(FOR_EVER)


def aborts(plan: Plan) -> None:
    """SIGABRT, as when C code finds that something cannot be."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    live(plan)
    os.abort()


# Threads.


def thread_exits(plan: Plan) -> None:
    """sys.exit in a thread ends that thread."""
    threading.Thread(target=lambda: GO.wait() and sys.exit(5)).start()
    live(plan)
    say("goes on")
    time.sleep(FOR_EVER)


def thread_goes_on(plan: Plan) -> None:
    """The main thread ends, another one works for so many seconds more."""
    threading.Thread(target=lambda: GO.wait() and time.sleep(plan.seconds)).start()
    live(plan)


# While something is blocked.


def in_a_call(plan: Plan) -> None:
    """Ctrl-C in a call that waits for its answer."""
    registry = live(plan)
    say("calls")
    registry.publish("late", plan.address, timeout=60.0)


def _in_threads(*calls: Callable[[], object]) -> None:
    def run(call: Callable[[], object]) -> None:
        with contextlib.suppress(RegistryError):
            call()

    for call in calls:
        threading.Thread(target=run, args=(call,), daemon=True).start()
    time.sleep(ENTER)


def daemon_calls(plan: Plan) -> None:
    """Threads that are daemons wait for answers."""
    registry = live(plan)
    _in_threads(
        lambda: registry.lookup("unwatched", timeout=60.0),
        lambda: registry.publish("late", plan.address, timeout=60.0),
        lambda: registry.subscribe("late", lambda _: None, timeout=60.0),
        lambda: plan.registry().lookup("unwatched", timeout=60.0),
    )


def daemon_watches(plan: Plan) -> None:
    """A thread that is a daemon waits for changes."""
    registry = plan.registry()
    watch = registry.watch(plan.service, timeout=20.0)
    _in_threads(lambda: list(watch))
    live(plan, registry)


def pool_calls(plan: Plan) -> None:
    """A thread of a pool waits for its answer: Python waits for that thread."""
    registry = live(plan)
    pool = ThreadPoolExecutor(1)
    pool.submit(registry.lookup, "unwatched", timeout=1.0)
    time.sleep(ENTER)


def listener_blocks(plan: Plan) -> None:
    """A listener never returns."""
    registry, changes = plan.registry(), 0

    def listen(_: InstancesChange) -> None:
        nonlocal changes
        changes += 1
        if changes > 1:
            say("listens")
            time.sleep(FOR_EVER)

    registry.subscribe(plan.service, listen, timeout=20.0)
    live(plan, registry)


GOOD: dict[Callable[[Plan], None], int] = {
    returns: 0,
    exits: 3,
    raises: 1,
    interrupted: -signal.SIGINT,
    handled: 0,
    interrupts_main: -signal.SIGINT,
    async_returns: 0,
    async_raises: 1,
    with_everything: 0,
    at_exit: 0,
}
"""Ways to end in good order, with their exit status."""
SUDDEN: dict[Callable[[Plan], None], int] = {
    terminated: -signal.SIGTERM,
    leaves: 4,
    thread_leaves: 4,
    aborts: -signal.SIGABRT,
}
BLOCKED: dict[Callable[[Plan], None], int] = {
    returns: 0,
    raises: 1,
    handled: 0,
    async_returns: 0,
    in_a_call: -signal.SIGINT,
    daemon_calls: 0,
    daemon_watches: 0,
    pool_calls: 0,
    listener_blocks: 0,
}
ENDINGS = {one.__name__: one for one in (*GOOD, *SUDDEN, *BLOCKED, thread_exits, thread_goes_on)}


def main() -> None:
    """Do what the plan says."""
    signal.signal(signal.SIGUSR1, lambda *_: GO.set())
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    ENDINGS[plan.mode](plan)


if __name__ == "__main__":
    main()
