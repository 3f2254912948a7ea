"""A keeper at a desk: a backend that answers as it is told, a clock that is moved by hand, and what was published."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Self

import msgspec

from sofa_registry_adapters import Instance, Revision, ServiceKey
from sofa_registry_adapters.engine.keeper import Keeper
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.publication import Publication
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.events import Event
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Snapshot, Wanted
from sofa_registry_adapters.testing.clock import ManualClock

A, B = ServiceKey("a"), ServiceKey("b")
Answer = Mapping[ServiceKey, RegistryError] | Exception


class Scripted(RegistryBackend):
    """A registry that answers as a test says, and has what it did not refuse."""

    def __init__(self, *, announces: bool = True) -> None:
        self.there: dict[ServiceKey, dict[str, Instance]] = {}
        self.calls: list[tuple[dict[ServiceKey, tuple[Instance, ...]], list[ServiceKey]]] = []
        self.script: list[Answer | Callable[[], Awaitable[Answer | None]]] = []
        self.refuse: Callable[[ServiceKey, Instance], RegistryError | None] = lambda *_: None
        self._announces = announces

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(announces_withdrawal=self._announces)

    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        self.calls.append((dict(wanted.instances), list(changed)))
        if self.script:
            step = self.script.pop(0)
            answer = await step() if callable(step) else step
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                self._apply(wanted, changed, answer)
                return answer
        return self._apply(wanted, changed, {})

    def _apply(
        self, wanted: Wanted, changed: Collection[ServiceKey], answer: Mapping[ServiceKey, RegistryError]
    ) -> Mapping[ServiceKey, RegistryError]:
        errors = dict(answer)
        for service in changed:
            if service in answer:
                continue
            there: dict[str, Instance] = {}
            refused: list[RegistryError] = []
            for one in wanted.instances.get(service, ()):
                error = self.refuse(service, one)
                if error is None:
                    there[one.instance_id] = one
                else:
                    refused.append(error.about(frozenset((one.instance_id,))))
            self.there[service] = there
            if refused:
                errors[service] = refused[0].beside(refused[1:])
        return errors

    def states(self, service: ServiceKey = A) -> dict[str, str]:
        return {name: one.state for name, one in self.there.get(service, {}).items()}

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        return {}

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        return Snapshot(Revision())

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        yield Snapshot(Revision())

    async def services(self) -> Sequence[ServiceKey]:
        return ()


class Pace(msgspec.Struct):
    call_timeout: float = 5.0
    leaving: float = 0.2


class Desk:
    """A keeper on a scripted registry, with the clock in the test's hand."""

    def __init__(self, *, announces: bool = True) -> None:
        self.clock = ManualClock()
        self.backend = Scripted(announces=announces)
        self.events: list[Event] = []
        self.link = Link("scripted://", self.clock, self.events.append)
        self.pace = Pace()
        self.keeper = Keeper(self.backend, self.pace, self.clock, self.link, self.events.append)

    async def __aenter__(self) -> Self:
        self.keeper.start()
        self.keeper.ready.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keeper.stop()

    def publish(self, *ids: str, service: ServiceKey = A, weight: int = 100) -> Publication:
        publication = Publication(service, tuple(one(name, weight) for name in ids))
        self.keeper.add(publication)
        return publication

    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]

    async def calm(self) -> None:
        """Until the keeper has nothing to do before the clock moves."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def pass_by(self, seconds: float, step: float = 0.1) -> None:
        await self.calm()
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await self.calm()


def one(name: str, weight: int = 100) -> Instance:
    return Instance(host="h", port=1, instance_id=name, weight=weight)


def on_a_desk(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*self: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(20), Desk() as desk:
                await test(*self, desk)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]  pytest would take `desk` for a fixture
    return run
