"""Defects of watches and of listeners."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

from planted.table import REGISTRY, STORE, mutant
from sofa_registry_adapters.backends.memory.sessions import Feed, Session
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine import mailbox as mailboxes
from sofa_registry_adapters.engine.mailbox import Mailbox
from sofa_registry_adapters.engine.protection import Protection
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.registry import Snapshot
from sofa_registry_adapters.spi.store import Bucket, StorePatch, StoreSnapshot


async def _patches_only(self: MemoryStore, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
    messages = _watch(self, bucket)
    try:
        await anext(messages)
        async for message in messages:
            yield message
    finally:
        await messages.aclose()


_watch: Any = MemoryStore.watch


@mutant(
    "A watch begins with the first change, not with what is there",
    "config sources that watch after they loaded",
    f"{STORE}test_6_a_watch_begins_with_what_is_there",
    f"{REGISTRY}test_20_first_notice[blocking]",
)
def a_lost_first_snapshot() -> None:
    MemoryStore.watch = _patches_only


@mutant(
    "What changes between the first snapshot and the first patch is never told",
    "Kratos' config on etcd: the watch starts after the load",
    f"{STORE}test_6_nothing_is_lost_between_the_snapshot_and_the_patches",
)
def a_gap_behind_the_snapshot() -> None:
    deliver = Feed.deliver
    delivered: dict[int, int] = {}

    def late(self: Feed, patch: StorePatch) -> None:
        delivered[id(self)] = delivered.get(id(self), 0) + (not self.stale)
        if delivered[id(self)] != 1:
            deliver(self, patch)

    Feed.deliver = late


@mutant(
    "A watch that was cut off goes on, and is told of nothing",
    "etcd3, Redis subscriptions across a reconnect",
    f"{STORE}test_6_a_cut_watch_raises",
    f"{REGISTRY}test_54_cut_connections",
)
def a_lost_watch_after_a_cut() -> None:
    def cut(self: Space, affected: Callable[[Session], bool]) -> None:
        for feed in self._all_feeds():
            if affected(feed.session):
                self.unsubscribe(feed)

    Space._cut = cut


@mutant(
    "A watch that was cut off ends as if all had been said",
    "nacos-sdk-python: a clean end of the stream opens no other",
    f"{STORE}test_6_a_cut_watch_raises",
)
def a_watch_that_swallows_its_end() -> None:
    async def watch(self: MemoryStore, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        messages = _watch(self, bucket)
        try:
            async for message in messages:
                yield message
        except RegistryError:
            return
        finally:
            await messages.aclose()

    MemoryStore.watch = watch


@mutant(
    "A counter goes back within an epoch",
    "reads from a follower that lags behind, versions from a wall clock",
    f"{STORE}test_5_revisions_go_up",
    f"{STORE}test_6_changes_come_in_order",
)
def a_counter_that_goes_back() -> None:
    Space.revision = property(lambda self: Revision(self._epoch, 1_000_000 - self._counter))


@mutant(
    "A registry that lost everything empties the lists of all consumers",
    "Dubbo and Nacos with protection off, which is their default",
    f"{REGISTRY}test_51_wipe",
)
def an_empty_push_that_is_believed() -> None:
    def sort(
        self: Protection, gone: Collection[str], visible: Mapping[str, Instance], now: float, **_: bool
    ) -> tuple[list[str], list[str]]:
        return [name for name in gone if name in visible], []

    Protection.sort = sort


@mutant(
    "A first notice waits for an instance: an empty service is never told of",
    "Kratos' and go-zero's resolvers, which refuse empty lists",
    f"{REGISTRY}test_20_first_notice[blocking]",
)
def an_empty_view_that_is_withheld() -> None:
    watch = StoreRegistry.watch

    async def full(self: StoreRegistry, service: Any) -> AsyncIterator[Any]:
        messages: Any = watch(self, service)
        try:
            async for message in messages:
                if not isinstance(message, Snapshot) or message.instances:
                    yield message
        finally:
            await messages.aclose()

    StoreRegistry.watch = full


@mutant(
    "Listeners are called under a lock that the verbs need",
    "nacos-sdk-python: a listener that looks something up waits for ever",
    f"{REGISTRY}test_32_a_listener_that_calls_back[blocking]",
)
def a_listener_called_under_a_lock() -> None:
    call, nudge = mailboxes.call, Mailbox.nudge
    lock = threading.Lock()

    def locked(listener: Any, item: object, failed: Any) -> None:
        with lock:
            call(listener, item, failed)

    def waiting(self: Mailbox) -> None:
        # In vain, and then on: a test run has to end.
        if lock.acquire(timeout=4.0):
            lock.release()
        nudge(self)

    mailboxes.call, Mailbox.nudge = locked, waiting


@mutant(
    "A listener that raises ends the delivery to all listeners of the service",
    "nacos-sdk-python",
    f"{REGISTRY}test_30_a_listener_that_fails[blocking]",
)
def a_failing_listener_that_stops_others() -> None:
    def carry(self: Any, step: Callable[[], Any], listener: Any, failed: Any) -> None:
        def work() -> None:
            while not broken and (item := step()) is not None:
                mailboxes.call(listener, item, lambda who, error: (broken.append(who), failed(who, error)))

        self._pool.run(work)

    broken: list[object] = []
    mailboxes.ThreadCourier.carry = carry
