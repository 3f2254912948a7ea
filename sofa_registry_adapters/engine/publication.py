"""One registration as the engine sees it: what is wanted, how it stands, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey

RegistrationState = Literal["pending", "live", "lost", "conflict", "withdrawn"]


class Publication:
    """The instances of one `publish`. Changed on the engine's loop; read from any thread."""

    def __init__(self, service: ServiceKey, instances: tuple[Instance, ...]) -> None:
        self.service = service
        self.instances = instances
        self.ids: frozenset[str] = frozenset(one.instance_id for one in instances)
        self.state: RegistrationState = "pending"
        self.last_error: Exception | None = None
        self.attempted = False
        self.gone: asyncio.Future[None] | None = None
        """Done once a withdrawal is confirmed."""
        self.settled: bool = False
        """Whether the registry has said yes or no to the instances as they are now."""
        self._changed = asyncio.Event()

    def become(self, state: RegistrationState, error: Exception | None = None, *, settled: bool = True) -> None:
        """Note how it stands now, and wake those who wait."""
        self.state, self.last_error, self.settled = state, error, settled
        self._changed.set()
        self._changed = asyncio.Event()

    def ours(self) -> tuple[Instance, ...]:
        """The instances that are, or may be, in the registry as ours."""
        if self.state in ("pending", "withdrawn"):
            return ()
        others = self.ids if self.state == "conflict" else frozenset[str]()
        if isinstance(self.last_error, RegistryError) and self.last_error.instance_ids:
            others &= self.last_error.instance_ids
        return tuple(one for one in self.instances if one.instance_id not in others)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds; it is looked at after each change."""
        while not condition():
            await self._changed.wait()
