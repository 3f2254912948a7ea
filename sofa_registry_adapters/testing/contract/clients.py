"""One way to drive both faces from a blocking test, so that a promise is written once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Literal, TypeVar

from sofa_registry_adapters.errors import DeadlineExceeded
from sofa_registry_adapters.face import AsyncFace, BlockingFace
from sofa_registry_adapters.handles import (
    AsyncLoop,
    AsyncRegistration,
    AsyncSubscription,
    BlockingLoop,
    Registration,
    Subscription,
)
from sofa_registry_adapters.model.events import Event
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, ServiceView
from sofa_registry_adapters.registry import AsyncRegistry, Registry
from sofa_registry_adapters.testing.provider import settled

FaceName = Literal["blocking", "async"]
C = TypeVar("C")
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


class Loop(Generic[C]):
    """A watch of either face, of whatever changes."""

    def __init__(self, driver: Driver, handle: BlockingLoop[C] | AsyncLoop[C]) -> None:
        self._driver = driver
        self._handle = handle

    def next(self, timeout: float = 5.0) -> C | None:
        """The next change; None once it is closed. Raises `DeadlineExceeded`."""
        handle = self._handle
        if isinstance(handle, BlockingLoop):
            return handle.next(timeout)

        async def step() -> C | None:
            try:
                async with asyncio.timeout(timeout):
                    return await handle.next()
            except TimeoutError:
                raise DeadlineExceeded(f"no change within {timeout:g} s") from None

        found: C | None = self._driver.do(step)
        return found

    def until_change(self, condition: Callable[[C], object], timeout: float = 5.0) -> C:
        """The first change that is so. Raises AssertionError."""
        deadline, last = time.monotonic() + timeout, None
        while (left := deadline - time.monotonic()) > 0:
            try:
                last = self.next(left)
            except DeadlineExceeded:
                break
            assert last is not None, "the watch ended"
            if condition(last):
                return last
        raise AssertionError(f"no change was so within {timeout:g} s; the last is {last!r}")

    def follow(self) -> Following[C]:
        """Iterate over it, beside the test, until it ends."""
        following: Following[C] = Following()
        handle = self._handle
        if isinstance(handle, BlockingLoop):
            threading.Thread(target=lambda: following.run(handle), name="watching", daemon=True).start()
        else:
            self._driver.start(following.run_async(handle))
        return following

    def close(self) -> None:
        """See `Watch.close`."""
        handle = self._handle
        if isinstance(handle, BlockingLoop):
            handle.close()
        else:
            self._driver.do(handle.aclose)


class Watching(Loop[InstancesChange]):
    """A watch of a service."""

    def until(self, condition: Callable[[ServiceView], object], timeout: float = 5.0) -> InstancesChange:
        """The first change after which the view is so. Raises AssertionError."""
        return self.until_change(lambda change: condition(change.instances), timeout)


class Following(Generic[C]):
    """What an iteration over a watch has seen."""

    def __init__(self) -> None:
        self.changes: list[C] = []
        self.ended: threading.Event = threading.Event()

    def run(self, watch: BlockingLoop[C]) -> None:
        """Iterate, blocking."""
        self.changes.extend(watch)
        self.ended.set()

    async def run_async(self, watch: AsyncLoop[C]) -> None:
        """Iterate on an event loop."""
        async for change in watch:
            self.changes.append(change)
        self.ended.set()


class Driver:
    """Calls the verbs of a face so that they block either way.

    Those of a blocking one are called in the test's own thread, those of an async one on the loop of an `Application`.
    """

    def __init__(self, face: BlockingFace[Any] | AsyncFace[Any], application: Application | None) -> None:
        self._face = face
        self._application = application

    @property
    def asynchronous(self) -> bool:
        """Whether it is an async one."""
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

    def on(self, kind: type[E], listener: Callable[[E], object]) -> None:
        """See `Events.on`."""
        self.do(lambda: self._face.events.on(kind, listener))

    def heard(self, kind: type[E]) -> list[E]:
        """The events of a kind from now on, as they come."""
        found: list[E] = []
        self.on(kind, found.append)
        return found

    def slow(self, gate: threading.Event, then: Callable[[Any], object]) -> Callable[[Any], object]:
        """A listener that takes its time, in the way of its face: until the gate opens."""

        def blocking(change: object) -> None:
            gate.wait(VERB_SECONDS)
            then(change)

        async def asynchronous(change: object) -> None:
            while not gate.is_set():  # noqa: ASYNC110  the gate is opened in another thread
                await asyncio.sleep(0.005)
            then(change)

        return asynchronous if self.asynchronous else blocking

    def calling(self, answers: list[object], *verbs: Callable[[], object]) -> Callable[[Any], object]:
        """A listener that calls verbs of this face and notes the answers."""

        def blocking(_: object) -> None:
            answers.extend(verb() for verb in verbs)

        async def asynchronous(_: object) -> None:
            for verb in verbs:
                answer = verb()
                answers.append(await answer if isinstance(answer, Awaitable) else answer)

        return asynchronous if self.asynchronous else blocking

    def close(self) -> None:
        """See `Registry.close`."""
        face = self._face
        self.do(face.close if isinstance(face, BlockingFace) else face.aclose)


class Client(Driver):
    """A Registry or an AsyncRegistry; the verbs block either way."""

    def __init__(self, registry: Registry | AsyncRegistry, application: Application | None) -> None:
        super().__init__(registry, application)
        self.registry = registry

    def publish(
        self, service: str | ServiceKey, address: str | Instance | Iterable[str | Instance], **fields: Any
    ) -> Published:
        """See `Registry.publish`."""
        verb = self.registry.publish
        return Published(self, self.do(lambda: verb(service, address, **fields)))

    def lookup(self, service: str | ServiceKey, timeout: float = 5.0) -> ServiceView:
        """See `Registry.lookup`; what was written before is visible."""
        settled(self.registry)
        view: ServiceView = self.do(lambda: self.registry.lookup(service, timeout=timeout))
        return view

    def ids(self, service: str | ServiceKey) -> set[str]:
        """The ids that `lookup` finds."""
        return {one.instance_id for one in self.lookup(service)}

    def services(self) -> Sequence[ServiceKey]:
        """See `Registry.services`; what was written before is visible."""
        settled(self.registry)
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
