"""A program that publishes, to be killed, frozen, starved and forked by tests.

``python -m sofa_registry_adapters.testing.provider PLAN``, where the plan is a `Plan` in JSON. It writes a line
``live`` when it is published, ``state …`` at each change of that, and what its mode says.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable

import msgspec

from sofa_registry_adapters.errors import ForkUnsupported
from sofa_registry_adapters.handles import Registration
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.registry import AsyncRegistry, Registry

STEP = 0.02
AFTER_FORK = 0.5
"""Seconds that the parent waits for harm from a child that has ended: longer than a withdrawal takes."""


class Plan(msgspec.Struct, frozen=True):
    """What to do. ``who`` is published as metadata; ``seconds`` is for modes that take a time."""

    mode: str
    url: str
    options: dict[str, str | int | float | bool | None]
    service: str
    address: str
    who: str = ""
    seconds: float = 0.0
    other: str = "10.0.9.9:9"

    def registry(self) -> Registry:
        """A new Registry."""
        return Registry(self.url, options=self.options)

    def publish(self, registry: Registry, address: str = "") -> Registration:
        """Publish the address of this plan, or another one."""
        return registry.publish(self.service, address or self.address, metadata={"who": self.who}, timeout=60.0)

    def ids(self) -> set[str]:
        """What a fresh Registry finds."""
        with self.registry() as registry:
            settled(registry)
            return {one.instance_id for one in registry.lookup(self.service)}


def settled(registry: Registry | AsyncRegistry) -> None:
    """Return when reads show what was written until now, where the product says that this takes a while."""
    time.sleep(registry.capabilities.visible_within)


def say(*words: object) -> None:
    """Write a line."""
    print(*words, flush=True)  # noqa: T201  the parent reads it


def stay(plan: Plan) -> None:
    """Publish, and tell of each change of state until killed."""
    registry = plan.registry()
    registration = plan.publish(registry)
    say("live")
    state = registration.state
    while True:
        if registration.state != state:
            state = registration.state
            say("state", state)
        time.sleep(STEP)


class _Witness:
    """Whether an instance vanished from a view, ever."""

    def __init__(self, plan: Plan) -> None:
        self.address = plan.address
        self.removed = False

    def __call__(self, change: InstancesChange) -> None:
        self.removed |= any(one.instance_id == self.address for one in change.removed)


def spin(plan: Plan) -> None:
    """Publish, then compute in pure Python for ``seconds`` in the main thread."""
    registry, consumer, witness = plan.registry(), plan.registry(), _Witness(plan)
    plan.publish(registry)
    consumer.subscribe(plan.service, witness)
    say("live")
    end, count = time.monotonic() + plan.seconds, 0
    while time.monotonic() < end:
        count += sum(range(1000))
    _verdict(plan, witness)


def block(plan: Plan) -> None:
    """Publish from an event loop, then block that loop for ``seconds``."""
    consumer, witness = plan.registry(), _Witness(plan)

    async def work() -> None:
        registry = AsyncRegistry(plan.url, options=plan.options)
        await registry.publish(plan.service, plan.address, metadata={"who": plan.who}, timeout=20.0)
        consumer.subscribe(plan.service, witness)
        say("live")
        time.sleep(plan.seconds)  # noqa: ASYNC251  this is the fault
        _verdict(plan, witness)

    asyncio.run(work())


def _verdict(plan: Plan, witness: _Witness) -> None:
    say("kept" if not witness.removed and plan.address in plan.ids() else "lost")
    while True:
        time.sleep(STEP)


def _child_exits(_: Plan, __: Registry) -> None:
    """The child ends as programs do: atexit, garbage collection."""


def _child_ends_with(_: Plan, registry: Registry) -> None:
    try:
        with registry:
            pass
    except ForkUnsupported:
        say("child refused")


def _child_closes(_: Plan, registry: Registry) -> None:
    registry.close()


def _child_collects(_: Plan, registry: Registry) -> None:
    # The caller's variables go with its frame; the last name of it is this one.
    del registry
    gc.collect()


def _child_publishes(plan: Plan, registry: Registry) -> None:
    try:
        plan.publish(registry, plan.other)
    except ForkUnsupported as error:
        say("child refused", error)
        return
    say("child live" if plan.other in plan.ids() else "child is not in its own view")
    registry.close()
    say("child gone" if plan.other not in plan.ids() else "child is still there")


def _child_publishes_afresh(plan: Plan, _: Registry) -> None:
    _child_publishes(plan, plan.registry())


CHILDREN: dict[str, Callable[[Plan, Registry], None]] = {
    "fork-exit": _child_exits,
    "fork-with": _child_ends_with,
    "fork-close": _child_closes,
    "fork-collect": _child_collects,
    "fork-publish": _child_publishes,
    "fork-afresh": _child_publishes_afresh,
}


def fork(plan: Plan) -> None:
    """Publish, fork a child that does what the mode says, and look whether the parent's is still there."""
    registry, consumer, witness = plan.registry(), plan.registry(), _Witness(plan)
    registration = plan.publish(registry)
    consumer.subscribe(plan.service, witness)
    say("live")
    child = os.fork()
    if not child:
        # What was inherited goes by reference count here, and the rest when the interpreter ends as usual.
        held = [registry]
        del registry, registration, consumer
        CHILDREN[plan.mode](plan, held.pop())
        return
    _, status = os.waitpid(child, 0)
    say("child ended", os.waitstatus_to_exitcode(status))
    time.sleep(AFTER_FORK)
    registration.update(weight=7)
    settled(registry)
    weights = {one.instance_id: one.weight for one in registry.lookup(plan.service)}
    say("parent kept" if not witness.removed and weights.get(plan.address) == 7 else "parent lost")
    consumer.close()
    registry.close()
    say("parent gone" if plan.address not in plan.ids() else "parent is still there")


MODES: dict[str, Callable[[Plan], None]] = {"stay": stay, "spin": spin, "block": block}


def main() -> None:
    """Do what the plan says."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    MODES.get(plan.mode, fork)(plan)


if __name__ == "__main__":
    main()
