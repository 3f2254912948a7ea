"""What the registry contract is made with: registries that are closed afterwards, child processes, and bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

import sofa_registry_adapters
from sofa_registry_adapters.config import ConfigCenter
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import AsyncRegistry, Registry
from sofa_registry_adapters.settings import parse_target, scheme_of, table_of
from sofa_registry_adapters.spi.options import Capabilities, Value
from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.contract.breaking import Faults
from sofa_registry_adapters.testing.contract.clients import Application, Client, FaceName, Recorder
from sofa_registry_adapters.testing.faults import PythonProcess, eventually, python_process
from sofa_registry_adapters.testing.provider import Plan, settled

T = TypeVar("T")

STEP = 5.0
"""How long one condition may take to come true while nothing is broken, in seconds."""
HOLD = 10.0
"""The protection hold of the registries of a test, in seconds: longer than any recovery."""
SHORT_HOLD = 1.0
"""The hold where a test waits for its end."""
LEAVING = 0.05
"""How long a leaving instance stays marked in a test, in seconds: short, so that tests end soon."""
SLACK = 0.5
"""What a loaded machine may add to a call's own time-out, in seconds."""
ECHO = ServiceKey("com.acme.Echo", "1.0")


class Registries:
    """Makes the registries of one test, all in one namespace that no other test uses, and closes them."""

    def __init__(self, url: str, options: Mapping[str, Value], lease_option: str, lease: float) -> None:
        self.url = url
        backend = Plugins().backend(scheme_of(url))
        self.capabilities: Capabilities = backend.capabilities_at(parse_target(url, backend, options))
        table = table_of(backend)
        self._options: dict[str, Value] = {
            "snapshot": "off",
            "protection_hold": HOLD,
            "leaving": LEAVING,
            **options,
        }
        self.silent_stay = ""
        """Why this version of the product keeps the records of a publisher that hangs, if it does."""
        self.poll: float = 0.0 if self.capabilities.push else parse_target(url, backend, options).number("poll")
        """Seconds between two reads of a consumer, where the registry does not push."""
        if lease_option in table:
            self._options[lease_option] = lease
            self.lease: float = lease
        else:
            # Three of them outlast what the product grants to those who are silent.
            self.lease = max(float(table["call_timeout"].default or 0.0), self.capabilities.notices_silence_within / 3)
        self._closing = contextlib.ExitStack()

    @property
    def options(self) -> dict[str, Value]:
        """The options of each registry of this test."""
        return dict(self._options)

    @property
    def told_within(self) -> float:
        """Seconds until a change is seen by another client while nothing is broken."""
        return (STEP if self.capabilities.push else STEP + 2.0) + self.capabilities.visible_within

    @property
    def dead_within(self) -> float:
        """Seconds until the records of a publisher that is killed are gone."""
        at_once = self.capabilities.notices_death_at_once
        return self.capabilities.notices_death_within + 1.0 if at_once else self.silent_within

    @property
    def silent_within(self) -> float:
        """Seconds until the records of a publisher that is stopped, or cut off, are gone."""
        can = self.capabilities
        return (can.notices_silence_within or self.lease * 1.15 + can.notices_death_within) + 1.0

    @property
    def back_within(self) -> float:
        """Seconds until a record that was lost is there again."""
        return self.capabilities.detects_loss_within + self.capabilities.visible_within + 1.0

    def open(self, face: FaceName = "blocking", **options: Value) -> Client:
        """A new Registry of this face, ready for use."""
        if face == "blocking":
            return Client(self.blocking(**options), None)
        application = Application()
        self._closing.callback(application.close)
        client = Client(AsyncRegistry(self.url, options=self._options | options), application)
        self._closing.callback(client.close)
        return client

    def blocking(self, **options: Value) -> Registry:
        """A new blocking Registry."""
        registry = self.fresh(**options)
        self._closing.callback(registry.close)
        return registry

    def fresh(self, **options: Value) -> Registry:
        """A new blocking Registry, which the test closes itself."""
        return Registry(self.url, options=self._options | options)

    def coroutine(self, **options: Value) -> AsyncRegistry:
        """A new AsyncRegistry, which the test closes itself."""
        return AsyncRegistry(self.url, options=self._options | options)

    def recorder(self, service: ServiceKey = ECHO, **options: Value) -> tuple[Registry, Recorder]:
        """A new Registry with a subscription, and what that was told."""
        registry, recorder = self.blocking(**options), Recorder()
        registry.subscribe(service, recorder)
        return registry, recorder

    def child(self, mode: str, address: str, service: ServiceKey = ECHO, **fields: str | float) -> PythonProcess:
        """A process of its own that publishes and behaves as ``mode`` says; see `provider`."""
        plan = Plan(mode, self.url, self._options, str(service), address, **fields)  # type: ignore[arg-type]
        package = str(Path(sofa_registry_adapters.__file__).parent.parent)
        places = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        arguments = ["-m", "sofa_registry_adapters.testing.provider", msgspec.json.encode(plan).decode()]
        return self._closing.enter_context(python_process(arguments, {"PYTHONPATH": places}))

    def close(self) -> None:
        """Close all of them, in the opposite order."""
        self._closing.close()


def needs_processes(registries: Registries) -> None:
    """Skip the test where other processes cannot see the registry."""
    if not registries.capabilities.shared:
        not_applicable("the registry declares shared=False: another process cannot see it")


def needs_takeover(registries: Registries) -> None:
    """Skip the test where a newer publisher cannot take an id over."""
    if not registries.capabilities.compare_and_set:
        not_applicable("the registry declares compare_and_set=False: an id stays with its holder until that one goes")


def needs_an_end_for_the_silent(registries: Registries) -> None:
    """Skip the test where the records of a publisher that hangs stay."""
    if registries.silent_stay:
        not_applicable(registries.silent_stay)


def able(faults: Faults | None, *abilities: str) -> Faults:
    """The faults, if they have these abilities; otherwise the test is skipped with that reason."""
    if faults is None:
        not_applicable(f"the fixture faults is None: nothing here can {', '.join(abilities)}")
    missing = [one for one in abilities if one not in faults.abilities]
    if missing:
        not_applicable(f"the fixture faults has no ability {', '.join(missing)}")
    return faults


def seen(registry: Registry | Client, service: ServiceKey = ECHO, timeout: float = STEP) -> dict[str, object]:
    """What `lookup` finds, by id: the metadata entry ``who``."""
    settled(registry.registry if isinstance(registry, Client) else registry)
    view = registry.lookup(service, timeout=timeout)
    return {one.instance_id: one.metadata.get("who", "") for one in view}


def quietly(look: Callable[[], T]) -> T | None:
    """What ``look`` says; None while the registry cannot say."""
    try:
        return look()
    except RegistryError:
        return None


def stays(condition: Callable[[], object], seconds: float, reason: str) -> None:
    """The condition holds now and for a while; ``reason`` says why that while is long enough."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"it did not stay so ({reason})"
        time.sleep(0.02)


def gone_for_good(registry: Registry, service: ServiceKey = ECHO, seconds: float = 1.0) -> None:
    """Nothing of the service is left behind: it vanishes, and what was under way does not bring it back."""
    eventually(lambda: quietly(lambda: registry.lookup(service)) is not None, STEP, "the registry answers again")
    eventually(lambda: not registry.lookup(service), STEP * 2, f"nothing of {service} is left behind")
    stays(lambda: not registry.lookup(service), seconds, "late writes and recoveries are over by then")


@contextlib.contextmanager
def takes(at_most: float, what: str) -> Iterator[None]:
    """The block ends within so many seconds, and a little for a loaded machine."""
    began = time.monotonic()
    yield
    taken = time.monotonic() - began
    assert taken <= at_most + SLACK, f"{what} took {taken:.2f} s, not {at_most:g} s"


def reactor_loop(face: Registry | ConfigCenter) -> asyncio.AbstractEventLoop:
    """The event loop on which the engine of an open Registry or ConfigCenter runs."""
    return face._opened().reactor.loop  # noqa: SLF001  no public verb needs it, only the promise about it
