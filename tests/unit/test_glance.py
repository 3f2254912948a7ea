"""A view that was read is kept until the next change, and found again without a lock; never after its time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from sofa_registry_adapters import AsyncRegistry, Registry
from sofa_registry_adapters.errors import Closed, InvalidName
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision, Source
from sofa_registry_adapters.testing.faults import eventually, eventually_async


def source(*ids: str) -> Source:
    made = Source(ServiceKey("echo"))
    made.instances = {name: Instance(host="h", port=1, instance_id=name) for name in ids}
    return made


def change(changed: Source) -> None:
    with changed.locked():
        changed.retire()
        changed.instances = dict(changed.instances)
        changed.revision = Revision("e", changed.revision.counter + 1)


def test_a_view_that_was_read_is_the_next_ones_view() -> None:
    one = source("a", "b")
    first = one.view()
    assert one.settled is None
    tuple(first)
    number = id(first)
    del first
    assert one.settled is not None
    assert id(one.view()) == number


def test_a_change_ends_it() -> None:
    one = source("a", "b")
    tuple(one.view())
    change(one)
    assert one.settled is None
    assert one.view().revision.counter == 1


def test_an_older_view_that_is_read_late_is_not_kept() -> None:
    one = source("a", "b")
    old = one.view()
    change(one)
    tuple(old)
    assert one.settled is None


def test_nothing_is_kept_once_nobody_changes_it() -> None:
    one = source("a", "b")
    tuple(one.view())
    one.end()
    assert one.settled is None
    tuple(one.view())
    assert one.settled is None


def test_lookup_finds_each_change_and_the_end_of_the_watch() -> None:
    with Registry("memory://glance-1") as registry, Registry("memory://glance-1") as provider:
        registration = provider.publish("echo", "10.0.0.1:80", weight=1)
        place = registry.subscribe("echo", lambda change: tuple(change.instances))
        for weight in range(2, 30):
            assert registry.lookup("echo") is registry.lookup("echo")
            registration.update(weight=weight)
            eventually(lambda weight=weight: registry.lookup("echo")[0].weight == weight)  # type: ignore[misc]
        place.close()
        registration.update(weight=77)
        eventually(lambda: registry.lookup("echo")[0].weight == 77)
        registration.unpublish()
        assert len(registry.lookup("echo")) == 0
    with pytest.raises(Closed):
        registry.lookup("echo")


def test_what_is_no_name_is_refused_as_ever() -> None:
    with Registry("memory://glance-2") as registry:
        for name in (["echo"], 7, ""):
            with pytest.raises(InvalidName):
                registry.lookup(name)  # type: ignore[arg-type]


def test_async_lookup_finds_each_change() -> None:
    async def main() -> None:
        async with AsyncRegistry("memory://glance-3") as registry:
            registration = await registry.publish("echo", "10.0.0.1:80", weight=1)
            await registry.subscribe("echo", lambda change: tuple(change.instances))
            for weight in range(2, 10):
                tuple(await registry.lookup("echo"))
                await registration.update(weight=weight)

                async def seen(weight: int = weight) -> bool:
                    return (await registry.lookup("echo"))[0].weight == weight

                await eventually_async(seen)

    asyncio.run(main())


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def holds_in_a_child(check: Callable[[], bool]) -> bool:
    """What ``check`` says in the child of a fork; False if it raises."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@forks
def test_the_child_of_a_fork_asks_for_itself() -> None:
    with Registry("memory://glance-4") as registry:
        registry.publish("echo", "10.0.0.1:80")
        registry.subscribe("echo", lambda change: tuple(change.instances))
        assert len(registry.lookup("echo")) == 1
        # The memory of the child has a registry of its own, in which nobody published.
        assert holds_in_a_child(lambda: registry._glance("echo") is None)


@forks
def test_threads_of_a_child_that_come_first_share_one_session() -> None:
    with Registry("memory://glance-5") as registry:
        registry.publish("echo", "10.0.0.1:80")

        def check() -> bool:
            gate = threading.Barrier(8)

            def publish(number: int) -> None:
                gate.wait()
                registry.publish("echo", f"10.0.0.{number}:80")

            threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            assert len(registry.lookup("echo")) == 8
            registry.close()
            with Registry("memory://glance-5") as other:
                return not other.lookup("echo")

        assert holds_in_a_child(check)


@forks
def test_what_a_child_closes_first_is_closed_there_and_nowhere_else() -> None:
    with Registry("memory://glance-6") as registry:
        registry.publish("echo", "10.0.0.1:80")

        def check() -> bool:
            registry.close()
            try:
                registry.publish("echo", "10.0.0.2:80")
            except Closed:
                return True
            return False

        assert holds_in_a_child(check)
        assert len(registry.lookup("echo")) == 1
