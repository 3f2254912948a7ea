"""One way to drive both faces from a blocking test, so that a promise is written once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

from sofa_registry_adapters.errors import DeadlineExceeded
from sofa_registry_adapters.handles import (
    AsyncRegistration,
    AsyncSubscription,
    AsyncWatch,
    Registration,
    Subscription,
    Watch,
)
from sofa_registry_adapters.model.events import Event
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, ServiceView
from sofa_registry_adapters.registry import AsyncRegistry, Registry

FaceName = Literal["blocking", "async"]
E = TypeVar("E", bound=Event)
T = TypeVar("T")
Listener = Callable[[InstancesChange], object]

VERB_SECONDS = 30.0
"""How long any verb may keep a test waiting, whatever its own time-out says."""


class Application:
    """An asyncio application: an event loop on a thread of its own, into which a test puts coroutines."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.thread: threading.Thread = threading.Thread(target=self.loop.run_forever, name="application", daemon=True)
        self.thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T], seconds: float = VERB_SECONDS) -> T:
        """Run a coroutine on the loop and wait for it."""

        async def bounded() -> T:
            async with asyncio.timeout(seconds):
                return await work

        return self.start(bounded()).result(seconds + 1.0)

    def close(self) -> None:
        """End the loop, and what still runs on it."""
        if self.loop.is_closed():
            return

        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(VERB_SECONDS)
        self.loop.close()


class Published:
    """A registration of either face."""

    def __init__(self, client: Client, handle: Registration | AsyncRegistration) -> None:
        self._client = client
        self.handle = handle

    @property
    def state(self) -> str:
        """See `Registration.state`."""
        return self.handle.state

    @property
    def last_error(self) -> Exception | None:
        """See `Registration.last_error`."""
        return self.handle.last_error

    @property
    def instances(self) -> tuple[Instance, ...]:
        """See `Registration.instances`."""
        return self.handle.instances

    def update(self, **fields: Any) -> None:
        """See `Registration.update`."""
        self._client.do(lambda: self.handle.update(**fields))

    def unpublish(self, timeout: float = 5.0) -> None:
        """See `Registration.unpublish`."""
        self._client.do(lambda: self.handle.unpublish(timeout))

    def wait_live(self, timeout: float = 5.0) -> None:
        """See `Registration.wait_live`."""
        self._client.do(lambda: self.handle.wait_live(timeout))


class Watching:
    """A watch of either face."""

    def __init__(self, client: Client, handle: Watch | AsyncWatch) -> None:
        self._client = client
        self._handle = handle

    def next(self, timeout: float = 5.0) -> InstancesChange | None:
        """The next change; None once it is closed. Raises `DeadlineExceeded`."""
        handle = self._handle
        if isinstance(handle, Watch):
            return handle.next(timeout)

        async def step() -> InstancesChange | None:
            try:
                async with asyncio.timeout(timeout):
                    return await handle.next()
            except TimeoutError:
                raise DeadlineExceeded(f"no change within {timeout:g} s") from None

        found: InstancesChange | None = self._client.do(step)
        return found

    def until(self, condition: Callable[[ServiceView], object], timeout: float = 5.0) -> InstancesChange:
        """The first change after which the view is so. Raises AssertionError."""
        deadline, last = time.monotonic() + timeout, None
        while (left := deadline - time.monotonic()) > 0:
            try:
                change = self.next(left)
            except DeadlineExceeded:
                break
            assert change is not None, "the watch ended"
            last = change.instances
            if condition(last):
                return change
        raise AssertionError(f"the watched view did not become so within {timeout:g} s; it is {last!r}")

    def follow(self) -> Following:
        """Iterate over it, beside the test, until it ends."""
        following, handle = Following(), self._handle
        if isinstance(handle, Watch):
            threading.Thread(target=lambda: following.run(handle), name="watching", daemon=True).start()
        else:
            self._client.start(following.run_async(handle))
        return following

    def close(self) -> None:
        """See `Watch.close`."""
        handle = self._handle
        if isinstance(handle, Watch):
            handle.close()
        else:
            self._client.do(handle.aclose)


class Following:
    """What an iteration over a watch has seen."""

    def __init__(self) -> None:
        self.changes: list[InstancesChange] = []
        self.ended: threading.Event = threading.Event()

    def run(self, watch: Watch) -> None:
        """Iterate, blocking."""
        self.changes.extend(watch)
        self.ended.set()

    async def run_async(self, watch: AsyncWatch) -> None:
        """Iterate on an event loop."""
        async for change in watch:
            self.changes.append(change)
        self.ended.set()


class Client:
    """A Registry or an AsyncRegistry; the verbs block either way.

    The blocking one is called in the test's own thread, the async one on the loop of an `Application`.
    """

    def __init__(self, registry: Registry | AsyncRegistry, application: Application | None) -> None:
        self.registry = registry
        self._application = application

    @property
    def asynchronous(self) -> bool:
        """Whether it is an AsyncRegistry."""
        return self._application is not None

    @property
    def caller(self) -> threading.Thread:
        """The thread in which its verbs are called."""
        return threading.current_thread() if self._application is None else self._application.thread

    def do(self, verb: Callable[[], Any]) -> Any:
        """Call something of this face where its verbs are called, await it if need be, give back the answer."""
        if self._application is None:
            return verb()

        async def call() -> Any:
            answer = verb()
            return await answer if isinstance(answer, Awaitable) else answer

        return self._application.run(call())

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the application's loop."""
        assert self._application is not None
        return self._application.start(work)

    def publish(
        self, service: str | ServiceKey, address: str | Instance | Iterable[str | Instance], **fields: Any
    ) -> Published:
        """See `Registry.publish`."""
        verb = self.registry.publish
        return Published(self, self.do(lambda: verb(service, address, **fields)))

    def lookup(self, service: str | ServiceKey, timeout: float = 5.0) -> ServiceView:
        """See `Registry.lookup`."""
        view: ServiceView = self.do(lambda: self.registry.lookup(service, timeout=timeout))
        return view

    def ids(self, service: str | ServiceKey) -> set[str]:
        """The ids that `lookup` finds."""
        return {one.instance_id for one in self.lookup(service)}

    def services(self) -> Sequence[ServiceKey]:
        """See `Registry.services`."""
        found: Sequence[ServiceKey] = self.do(self.registry.services)
        return found

    def subscribe(
        self, service: str | ServiceKey, listener: Listener, **options: Any
    ) -> Subscription | AsyncSubscription:
        """See `Registry.subscribe`."""
        verb = self.registry.subscribe
        subscription: Subscription = self.do(lambda: verb(service, listener, **options))
        return subscription

    def watch(self, service: str | ServiceKey, **options: Any) -> Watching:
        """See `Registry.watch`."""
        verb = self.registry.watch
        return Watching(self, self.do(lambda: verb(service, **options)))

    def on(self, kind: type[E], listener: Callable[[E], object]) -> None:
        """See `Events.on`."""
        self.do(lambda: self.registry.events.on(kind, listener))

    def heard(self, kind: type[E]) -> list[E]:
        """The events of a kind from now on, as they come."""
        found: list[E] = []
        self.on(kind, found.append)
        return found

    def slow(self, gate: threading.Event, then: Listener) -> Listener:
        """A listener that takes its time, in the way of its face: until the gate opens."""

        def blocking(change: InstancesChange) -> None:
            gate.wait(VERB_SECONDS)
            then(change)

        async def asynchronous(change: InstancesChange) -> None:
            while not gate.is_set():  # noqa: ASYNC110  the gate is opened in another thread
                await asyncio.sleep(0.005)
            then(change)

        return asynchronous if self.asynchronous else blocking

    def calling(self, answers: list[object], *verbs: Callable[[], object]) -> Listener:
        """A listener that calls verbs of this face and notes the answers."""

        def blocking(_: InstancesChange) -> None:
            answers.extend(verb() for verb in verbs)

        async def asynchronous(_: InstancesChange) -> None:
            for verb in verbs:
                answer = verb()
                answers.append(await answer if isinstance(answer, Awaitable) else answer)

        return asynchronous if self.asynchronous else blocking

    def close(self) -> None:
        """See `Registry.close`."""
        registry = self.registry
        self.do(registry.close if isinstance(registry, Registry) else registry.aclose)


class Recorder:
    """A listener that keeps what it was told, and a replica made of the changes alone."""

    def __init__(self) -> None:
        self.changes: list[InstancesChange] = []
        self.threads: list[threading.Thread] = []
        self.times: list[float] = []
        self.replica: dict[str, Instance] = {}
        self.overlaps: int = 0
        self._inside = 0
        self._mark = 0

    def __call__(self, change: InstancesChange) -> None:
        self._inside += 1
        self.overlaps += self._inside > 1
        for one in change.removed:
            del self.replica[one.instance_id]
        for one in change.added:
            assert one.instance_id not in self.replica, f"added twice: {one.instance_id}"
            self.replica[one.instance_id] = one
        for one in change.updated:
            assert one.instance_id in self.replica, f"updated, but never added: {one.instance_id}"
            self.replica[one.instance_id] = one
        self.threads.append(threading.current_thread())
        self.times.append(time.monotonic())
        self.changes.append(change)
        self._inside -= 1

    @property
    def ids(self) -> set[str]:
        """The ids of the latest view."""
        return {one.instance_id for one in self.changes[-1].instances} if self.changes else set()

    @property
    def stale(self) -> bool:
        """Whether the latest view is stale."""
        return bool(self.changes) and self.changes[-1].stale

    @property
    def smallest(self) -> int:
        """The size of the smallest view since the mark."""
        return min((len(change.instances) for change in self.changes[self._mark :]), default=0)

    def mark(self) -> None:
        """From here on the views are compared: the latest one is as it should stay."""
        self._mark = len(self.changes) - 1

    def went(self, instance_id: str) -> bool:
        """Whether an instance was removed at any time."""
        return any(one.instance_id == instance_id for change in self.changes for one in change.removed)
