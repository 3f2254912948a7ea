"""Listeners that want to be awaited, where nobody awaits them; and a wait that has an end."""

from __future__ import annotations

import threading
import time

import pytest

from sofa_registry_adapters import ConfigCenter, InstancesChange, Registry
from sofa_registry_adapters.errors import DeadlineExceeded, InvalidArgument
from sofa_registry_adapters.events import ListenerFailed
from sofa_registry_adapters.testing.faults.waiting import eventually


class Called:
    async def __call__(self, change: object) -> None: ...


async def told(change: object) -> None: ...


@pytest.mark.parametrize("listener", (told, Called()))
def test_what_is_async_is_refused_where_it_would_never_run(listener: object) -> None:
    with Registry("memory://async-listeners") as registry, pytest.raises(InvalidArgument, match="use AsyncRegistry"):
        registry.subscribe("echo", listener)  # type: ignore[arg-type]
    with ConfigCenter("memory://async-listeners") as center, pytest.raises(InvalidArgument, match="use AsyncRegistry"):
        center.add_listener("key", listener)  # type: ignore[arg-type]


def test_a_function_that_turns_out_to_return_a_coroutine_is_a_failure() -> None:
    failed: list[ListenerFailed] = []

    def listener(change: InstancesChange) -> object:
        return told(change)

    with Registry("memory://async-answers") as registry:
        registry.events.on(ListenerFailed, failed.append)
        registry.subscribe("echo", listener)
        eventually(lambda: len(failed) == 1, message="the first call, in the caller's thread")
        registry.publish("echo", "10.0.0.1:80")
        eventually(lambda: len(failed) == 2, message="and the second")
        assert "a coroutine, which nobody awaits" in failed[0].reason


def test_wakes_without_news_do_not_begin_the_time_out_anew() -> None:
    with Registry("memory://wakes") as registry, registry.watch("echo") as watch:
        watch.next(5)
        over = threading.Event()

        def wake() -> None:
            while not over.wait(0.02):
                watch._inbox._ready.set()

        waker = threading.Thread(target=wake)
        waker.start()
        began = time.monotonic()
        try:
            with pytest.raises(DeadlineExceeded):
                watch.next(0.3)
        finally:
            over.set()
            waker.join()
        assert 0.25 < time.monotonic() - began < 5
