"""For the tests of applications: a registry that needs no server, time that stands still, faults on demand.

With the pytest plug-in `sofa_registry_adapters.testing.plugin` these are fixtures: ``registry`` (an open `Registry` that nobody
else sees), ``registry_stage`` (its faults, and further registries beside it) and ``registry_clock`` (its time).

>>> stage = RegistryStage()
>>> with stage.registry() as registry:
...     registration = registry.publish("com.acme.Hello", "10.0.0.7:80")
...     stage.partition()
...     registry.lookup("com.acme.Other", timeout=0.1)
Traceback (most recent call last):
sofa_registry_adapters.errors.Unavailable: ...
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from sofa_registry_adapters.backends.memory import Space, space
from sofa_registry_adapters.config import AsyncConfigCenter, ConfigCenter
from sofa_registry_adapters.handles import Registration, Subscription, Watch
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import ServiceView
from sofa_registry_adapters.registry import AsyncRegistry, Registry
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import Value

SWIFT: Mapping[str, Value] = {"leaving": 0.0}
"""Options under which nothing waits for time to pass."""


class RegistryStage:
    """An in-process registry of its own, with everything that can happen to one.

    ``clock``: another source of time, for instance a `ManualClock`; without one it is the machine's. With time that
    stands still the engine's retries wait until it is advanced.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.url: str = f"memory://{secrets.token_hex(8)}"
        self.clock = clock
        self._space: Space = space(self.url.removeprefix("memory://"))

    def registry(self, **options: Value) -> Registry:
        """A further Registry on this stage, as another process would have one. Close it."""
        return Registry(self.url, options={**SWIFT, **options}, clock=self.clock)

    def async_registry(self, **options: Value) -> AsyncRegistry:
        """As `registry`, for an event loop."""
        return AsyncRegistry(self.url, options={**SWIFT, **options}, clock=self.clock)

    def config(self, **options: Value) -> ConfigCenter:
        """A ConfigCenter on this stage, as another process would have one. Close it."""
        return ConfigCenter(self.url, options=options, clock=self.clock)

    def async_config(self, **options: Value) -> AsyncConfigCenter:
        """As `config`, for an event loop."""
        return AsyncConfigCenter(self.url, options=options, clock=self.clock)

    def partition(self) -> None:
        """From now on nobody reaches the registry; views are served stale."""
        self._space.partition()

    def heal(self) -> None:
        """The registry can be reached again."""
        self._space.heal()

    @contextlib.contextmanager
    def partitioned(self) -> Iterator[None]:
        """`partition`, and `heal` at the end."""
        self.partition()
        try:
            yield
        finally:
            self.heal()

    def expire(self) -> None:
        """Every lease is over: all that was published vanishes, until its publishers notice."""
        self._space.expire_all()

    def wipe(self) -> None:
        """The registry lost everything, permanent records included."""
        self._space.wipe()

    def slow(self, seconds: float) -> None:
        """Each exchange takes so long, by the stage's clock; 0 ends it."""
        self._space.slow(seconds)


class RecordingRegistry(Registry):
    """A Registry that notes what was asked of it: ``calls`` has the verb, the service and the arguments, in order.

    It works as well: on a stage of its own unless it is given a URL.
    """

    def __init__(self, url: str | None = None, **settings: Any) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        super().__init__(url or f"memory://recording-{next(_NUMBERS)}-{secrets.token_hex(4)}", **settings)

    def _note(self, verb: str, service: str | ServiceKey, arguments: Mapping[str, Any]) -> None:
        self.calls.append((verb, str(ServiceKey.parse(service)), dict(arguments)))

    def publish(self, service: str | ServiceKey, instances: Any = None, **arguments: Any) -> Registration:
        self._note("publish", service, {"instances": instances, **arguments})
        return super().publish(service, instances, **arguments)

    def lookup(self, service: str | ServiceKey, **arguments: Any) -> ServiceView:
        self._note("lookup", service, arguments)
        return super().lookup(service, **arguments)

    def subscribe(self, service: str | ServiceKey, listener: Any, **arguments: Any) -> Subscription:
        self._note("subscribe", service, {"listener": listener, **arguments})
        return super().subscribe(service, listener, **arguments)

    def watch(self, service: str | ServiceKey, **arguments: Any) -> Watch:
        self._note("watch", service, arguments)
        return super().watch(service, **arguments)


_NUMBERS = itertools.count(1)
