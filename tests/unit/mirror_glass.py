"""A mirror under glass: a backend that says what it is told to, a clock that is moved by hand, and what the mirror shows."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Self

import msgspec

from sofa_registry_adapters import Instance, InstancesChange, Revision, ServiceKey
from sofa_registry_adapters.engine.mailbox import Events, Mailbox, ThreadCourier
from sofa_registry_adapters.engine.mirror import Mirror
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.events import Event
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Rejected, Snapshot, Wanted
from sofa_registry_adapters.testing.clock import ManualClock

SERVICE = ServiceKey("a")
Step = Snapshot | Patch | Exception


def one(name: str, **fields: object) -> Instance:
    return Instance(host="h", port=1, instance_id=name, **fields)  # type: ignore[arg-type]


def snapshot(ids: str, counter: int, epoch: str = "e", rejected: tuple[Rejected, ...] = ()) -> Snapshot:
    return Snapshot(Revision(epoch, counter), tuple(map(one, ids)), rejected)


def patch(counter: int, changed: str = "", removed: str = "", epoch: str = "e", leaving: str = "") -> Patch:
    several = (*map(one, changed), *(one(name, state="leaving") for name in leaving))
    return Patch(Revision(epoch, counter), several, tuple(removed))


class Scripted(RegistryBackend):
    """A registry whose watches and reads a test feeds."""

    def __init__(self, *, push: bool = True) -> None:
        self.push = push
        self.feeds: list[asyncio.Queue[Step]] = []
        self.opening: list[Step] = []
        self.found: Snapshot | Exception | None = Unavailable("nobody asked for this read")
        self.gate: asyncio.Event | None = None
        self.asked: list[Revision | None] = []
        self.closed = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(push=self.push)

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        feed: asyncio.Queue[Step] = asyncio.Queue()
        self.feeds.append(feed)
        if self.opening:
            feed.put_nowait(self.opening.pop(0))
        try:
            while True:
                step = await feed.get()
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            self.closed += 1

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        self.asked.append(known)
        found = self.found
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(found, Exception):
            raise found
        return None if found is None or (known is not None and known == found.revision) else found

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        return {}

    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        return {}

    async def services(self) -> Sequence[ServiceKey]:
        return ()


class Pace(msgspec.Struct):
    call_timeout: float = 5.0
    protection_hold: float = 10.0
    reconcile: float = 30.0
    full_read: float = 600.0
    poll: float = 2.0


class Glass:
    """A mirror of a scripted registry, with the clock in the test's hand."""

    def __init__(
        self, *, push: bool = True, backend: RegistryBackend | None = None, clock: ManualClock | None = None
    ) -> None:
        self.clock = clock or ManualClock()
        self.backend = Scripted(push=push)
        self.pace = Pace()
        self.events: list[Event] = []
        self.bus = Events(ThreadCourier())
        self.bus.emit = self.events.append  # type: ignore[method-assign]
        self.mirror = Mirror(SERVICE, backend or self.backend, self.pace, self.clock, self.bus)
        self.mailbox = Mailbox(self.mirror.source, lambda _: None, known=False)
        self.mirror.mailboxes.append(self.mailbox)

    async def __aenter__(self) -> Self:
        self.mirror.start()
        await self.calm()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mirror.stop()
        assert self.backend.closed == len(self.backend.feeds)

    async def calm(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def feed(self, *steps: Step) -> None:
        for step in steps:
            self.backend.feeds[-1].put_nowait(step)
        await self.calm()

    async def pass_by(self, seconds: float, step: float = 0.5) -> None:
        await self.calm()
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await self.calm()

    def ids(self) -> str:
        return "".join(sorted(item.instance_id for item in self.mirror.view()))

    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]

    def change(self) -> InstancesChange | None:
        return self.mailbox.take()


def on_glass(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*self: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(20), Glass() as glass:
                await test(*self, glass)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]  pytest would take `glass` for a fixture
    return run
