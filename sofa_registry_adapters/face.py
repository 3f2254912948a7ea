"""What all faces share: parsing, checking, the session of this process, opening, closing, and calling listeners."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import msgspec

from sofa_registry_adapters import advertise
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import AlreadyPublished, Closed, InvalidArgument, WrongThread
from sofa_registry_adapters.model.instance import (
    Instance,
    check_host,
    check_metadata,
    check_port,
    check_weight,
    join_address,
    split_address,
)
from sofa_registry_adapters.model.names import ServiceKey, check_text
from sofa_registry_adapters.named import Settings, find_settings
from sofa_registry_adapters.settings import parse_target, scheme_of
from sofa_registry_adapters.spi.clock import Clock, SystemClock
from sofa_registry_adapters.spi.options import Capabilities, Credentials, Target, Value

if TYPE_CHECKING:
    from sofa_registry_adapters.engine.mailbox import Courier, Events, Pending
    from sofa_registry_adapters.engine.reactor import Call
    from sofa_registry_adapters.engine.session import Session, Startable

TIMEOUT = 5.0
"""Seconds that a verb may take, where its ``timeout`` says nothing else."""

LONGEST = 86400.0

# Kept for ever: what a child inherits through a fork must not be finalised there.
_INHERITED: list[object] = []
_FACES: weakref.WeakSet[Face[Any]] = weakref.WeakSet()

Address = str | Instance
E = TypeVar("E", bound="Startable")
T = TypeVar("T")


class Face(ABC, Generic[E]):
    """A registry or a config center that is parsed and checked, and opened on first use, once in each process.

    ``E`` is its engine.
    """

    _asynchronous: ClassVar[bool] = False
    _what: ClassVar[str] = "registry"

    def __init__(
        self,
        url: str | None = None,
        *,
        options: Mapping[str, Value] | None = None,
        plugins: Iterable[object] = (),
        clock: Clock | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Parse and check; no I/O.

        ``url``: where the registry is, or its name in ``sofa-registry.toml``; without it SOFA_REGISTRY_URL, then that file, then ``local://``.
        ``options``: options of the backend that are not in the URL. ``plugins``: plug-ins by hand, or names of installed ones.
        ``clock``: another source of time, for tests. ``credentials``: returns user and password, for each connection or login anew; it
        may block, on a thread of its own. Raises `InvalidArgument`, `InvalidURL` or `PluginError`.
        """
        _check_given(options, plugins, credentials)
        settings = self._settings(url)
        found = Plugins((*settings.plugins, *plugins))
        self._backend = found.backend(scheme_of(settings.url))
        self._target = parse_target(settings.url, self._backend, {**settings.options, **(options or {})}, credentials)
        self._layout = found.layout(self._target.text("layout"))
        self._listeners = found.listeners()
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._session: Session[E] | None = None
        self._events: Events | None = None
        self._seen: dict[object, Any] = {}
        """What a verb without I/O found the last time, by what it was asked for; of this process, while this is open."""
        self._closed = False
        _FACES.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._target}{' closed' if self._closed else ''}>"

    @property
    def target(self) -> Target:
        """The parsed URL; printing it shows no secret."""
        return self._target

    @property
    def capabilities(self) -> Capabilities:
        """What the product can do."""
        return self._backend.capabilities_at(self._target)

    @property
    def events(self) -> Events:
        """The bus: ``events.on(RegistrationLost, listener)``."""
        from sofa_registry_adapters.engine.mailbox import Events

        with self._lock:
            if self._events is None:
                self._events = Events(self._courier(), asynchronous=self._asynchronous)
                for kind, listener in self._listeners:
                    self._events.on(kind, listener)
            return self._events

    @staticmethod
    def _settings(url: str | None) -> Settings:
        """Where it is, and what the configuration file adds."""
        return find_settings(url)

    @abstractmethod
    def _courier(self) -> Courier:
        """Where event listeners run."""

    @abstractmethod
    def _prepare(self) -> Callable[[], E]:
        """Import what is needed, and say how to make the engine."""

    @property
    def _fragile(self) -> frozenset[str]:
        """The client libraries that do not survive a fork while they are connected."""
        return frozenset(() if self._backend.capabilities.survives_fork else self._backend.libraries)

    def _after_fork(self) -> None:
        """In the child of a fork, before anything else runs there: start from nothing, and leave the parent's handles alone."""
        _INHERITED.append((self._session, self._events))
        self._session, self._events, self._seen = None, None, {}
        self._lock = threading.RLock()

    def _opened(self) -> Session[E]:
        from sofa_registry_adapters.engine.session import Session

        with self._lock:
            if self._closed:
                raise Closed(f"the {self._what} {self._target} was closed: make a new one")
            if self._session is None:
                self._session = Session(self.events, self._prepare, self._fragile)
            return self._session

    def _closing(self) -> Session[E] | None:
        """Mark as closed; the session that is to be closed, if this process has one."""
        with self._lock:
            self._closed = True
            self._seen = {}
            session, self._session = self._session, None
            return session


def _after_fork() -> None:
    # At the fork: a verb that is called for each request need not ask which process it is in, which is a system call, and
    # no two threads of the child can be the first.
    for face in tuple(_FACES):
        face._after_fork()  # noqa: SLF001  of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _check_given(options: object, plugins: object, credentials: object) -> None:
    """Raise `InvalidArgument` for what cannot be what it is given as. The message has nothing of it: it may be a secret."""
    if not (options is None or (isinstance(options, Mapping) and all(isinstance(name, str) for name in options))):
        raise InvalidArgument("options= maps names to values: write options={'call_timeout': '2s'}")
    if isinstance(plugins, str) or not isinstance(plugins, Iterable):
        raise InvalidArgument("plugins= has several, also where it is one: write plugins=['name']")
    if not (credentials is None or callable(credentials)):
        raise InvalidArgument("credentials= is a function without arguments that returns user and password")


class BlockingFace(Face[E]):
    """A face whose verbs may be called from any thread, and wait."""

    def open(self) -> Self:
        """Begin to connect; does not wait for it. Raises `MissingDependency`, `Unsupported`."""
        self._opened()
        return self

    def close(self) -> None:
        """Disconnect, within two seconds: a registry withdraws its instances, the values of a config center stay.

        Ends every `watch`; idempotent.
        """
        if self._session is not None:
            self._session.check_thread()
        session = self._closing()
        if session is not None:
            with session.ending(wait=0.5):
                session.run(session.engine.close(), TIMEOUT)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _courier(self) -> Courier:
        from sofa_registry_adapters.engine.mailbox import ThreadCourier

        return ThreadCourier()


class AsyncFace(Face[E]):
    """A face with coroutines, for any asyncio event loop."""

    _asynchronous = True

    async def open(self) -> Self:
        """Begin to connect; does not wait for it. Raises `MissingDependency`, `Unsupported`."""
        self._opened()
        return self

    async def aclose(self) -> None:
        """Disconnect, within two seconds: a registry withdraws its instances, the values of a config center stay.

        Ends every `watch`; idempotent.
        """
        session = self._closing()
        if session is not None:
            with session.ending():
                await await_call(session.call(session.engine.close()))

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _courier(self) -> Courier:
        from sofa_registry_adapters.engine.mailbox import LoopCourier

        try:
            return LoopCourier()
        except RuntimeError:
            raise WrongThread(
                f"the events of an async {self._what} need a running event loop: use them inside one"
            ) from None


async def await_call(call: Call[T]) -> T:
    """Wait for a verb of the engine on the application's loop; a cancelled wait leaves nothing behind."""
    import asyncio

    try:
        return await asyncio.wrap_future(call.future)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            # Not this task was cancelled, but the engine's: it was closed.
            from sofa_registry_adapters.engine.session import closed_meanwhile

            raise closed_meanwhile() from None
        call.abandon()
        raise


def listen(session: Session[Any], mailbox: Pending[T], listener: Callable[[T], object]) -> None:
    """Call the listener with what is known in this thread, then with each change on a thread of ours."""
    from sofa_registry_adapters.engine.mailbox import call_once

    first = mailbox.take()
    if first is not None:
        try:
            call_once(listener, first, session.events.failed)
        except BaseException:
            mailbox.close()
            raise
    mailbox.deliver(session.events.courier, listener, session.events.failed)


async def listen_async(session: Session[Any], mailbox: Pending[T], listener: Callable[[T], object]) -> None:
    """`listen` on the loop of the caller."""
    from sofa_registry_adapters.engine.mailbox import LoopCourier, call_async

    first = mailbox.take()
    if first is not None:
        try:
            await call_async(listener, first, session.events.failed)
        except BaseException:
            mailbox.close()
            raise
    mailbox.deliver(LoopCourier(), listener, session.events.failed)


def instances_to_publish(
    service: ServiceKey,
    given: Address | Iterable[Address] | None,
    host: str | None,
    port: int | None,
    fields: Mapping[str, Any],
    *,
    target: Target,
) -> tuple[Instance, ...]:
    """What `publish` was given, as checked instances. Raises `InvalidArgument`, `AlreadyPublished`, `UnroutableAddress`."""
    if host:
        addresses: list[Address] = [Instance(host=host, port=check_port(port))]
    else:
        several: object = (given,) if isinstance(given, str | Instance) else given
        if not isinstance(several, Iterable):
            raise InvalidArgument(
                f"publish {service} with 'host:port', an Instance, or several, not {type(given).__name__}"
            )
        addresses = list(several)
    if not addresses:
        raise InvalidArgument(f"publish {service} with at least one address")
    instances = tuple(_instances(addresses, fields))
    if len({one.instance_id for one in instances}) < len(instances):
        raise AlreadyPublished(f"two of the instances of {service} have the same instance_id")
    advertise.check_routable(instances, target)
    return instances


def _instances(addresses: Iterable[Address], fields: Mapping[str, Any]) -> Iterator[Instance]:
    """Checked instances. What those that are given as text have in common is checked with the first of them."""
    first: Instance | None = None
    for address in addresses:
        if isinstance(address, Instance):
            yield msgspec.structs.replace(address, state="up", **fields).checked()
        elif first is None or "instance_id" in fields:
            first = Instance.of(address, **fields)
            yield first
        else:
            host, port = split_address(address)
            name = check_text(join_address(host, port), "the instance id")
            yield msgspec.structs.replace(first, host=host, port=port, instance_id=name)


def given_fields(**fields: object) -> dict[str, Any]:
    """The fields that were given, checked. Raises `InvalidArgument`."""
    given = {name: value for name, value in fields.items() if value is not None}
    for name, value in given.items():
        if name == "weight":
            check_weight(value)
        elif name == "metadata":
            given[name] = check_metadata(value)
        elif name == "enabled":
            if not isinstance(value, bool):
                raise InvalidArgument(f"enabled must be True or False, not {value!r}")
        elif name == "host":
            check_host(value)
        else:
            check_text(value, f"the {name.replace('_', ' ')}", empty=True)
    return given


def host_to_publish(service: ServiceKey, given: object, port: object) -> str | None:
    """The host that ``port`` goes with; empty where this machine's is to be found; None without ``port``.

    Raises `InvalidArgument` unless it is addresses, a port, or a host and a port.
    """
    if port is None:
        if given is None:
            raise InvalidArgument(f"publish {service} with an address, or with port= for this machine's address")
        return None
    check_port(port)
    return "" if given is None else check_host(given)


def check_timeout(timeout: object) -> float:
    """A time-out in seconds, above 0. Raises `InvalidArgument`."""
    good = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not good or not 0 < timeout <= LONGEST:  # type: ignore[operator]
        raise InvalidArgument(f"a timeout is a number of seconds above 0 and up to a day, not {timeout!r}")
    return float(timeout)  # type: ignore[arg-type]
