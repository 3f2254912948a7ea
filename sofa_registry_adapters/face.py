"""What both faces share: parsing, checking, and the session of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sofa_registry_adapters import advertise
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import AlreadyPublished, Closed, ForkUnsupported, InvalidArgument
from sofa_registry_adapters.model.instance import (
    Instance,
    check_host,
    check_metadata,
    check_port,
    check_weight,
)
from sofa_registry_adapters.model.names import ServiceKey, check_text
from sofa_registry_adapters.settings import find_settings, parse_target, scheme_of
from sofa_registry_adapters.spi.clock import Clock, SystemClock
from sofa_registry_adapters.spi.options import Capabilities, Target, Value

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sofa_registry_adapters.engine.mailbox import Courier, Events
    from sofa_registry_adapters.engine.session import Session

TIMEOUT = 5.0
"""Seconds that a verb may take, where its ``timeout`` says nothing else."""

LONGEST = 86400.0

# Kept for ever: what a child inherits through a fork must not be finalised there.
_INHERITED: list[object] = []

Address = str | Instance


class Face:
    """A registry that is parsed and checked, and opened on first use, once in each process."""

    _asynchronous = False

    def __init__(
        self,
        url: str | None = None,
        *,
        options: Mapping[str, Value] | None = None,
        plugins: Iterable[object] = (),
        clock: Clock | None = None,
    ) -> None:
        """Parse and check; no I/O.

        ``url``: where the registry is; without it SOFA_REGISTRY_URL, then ``sofa-registry.toml``, then ``local://``.
        ``options``: options of the backend that are not in the URL. ``plugins``: plug-ins by hand, or names of installed ones.
        ``clock``: another source of time, for tests. Raises `InvalidURL` or `PluginError`.
        """
        settings = find_settings(url)
        found = Plugins((*settings.plugins, *plugins))
        self._backend = found.backend(scheme_of(settings.url))
        self._target = parse_target(settings.url, self._backend, {**settings.options, **(options or {})})
        self._layout = found.layout(self._target.text("layout"))
        self._listeners = found.listeners()
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._session: Session | None = None
        self._events: Events | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._target}{' closed' if self._closed else ''}>"

    @property
    def target(self) -> Target:
        """The parsed URL; printing it shows no secret."""
        return self._target

    @property
    def capabilities(self) -> Capabilities:
        """What the product can do."""
        return self._backend.capabilities

    @property
    def events(self) -> Events:
        """The bus: ``events.on(RegistrationLost, listener)``."""
        from sofa_registry_adapters.engine.mailbox import Events

        self._after_fork()
        with self._lock:
            if self._events is None:
                self._events = Events(self._courier(), asynchronous=self._asynchronous)
                for kind, listener in self._listeners:
                    self._events.on(kind, listener)
            return self._events

    def _advertised(self) -> Future[advertise.Advertised]:
        """Found on a thread of its own: name resolution may hang."""
        from sofa_registry_adapters.engine.reactor import DaemonExecutor

        return DaemonExecutor(1).submit(advertise.advertise_address, self._target)

    def _courier(self) -> Courier:
        raise NotImplementedError

    def _after_fork(self) -> None:
        """In the child of a fork: start from nothing, and leave the parent's handles alone."""
        if self._pid == os.getpid():
            return
        _INHERITED.append((self._session, self._events))
        inherited, self._pid, self._lock = self._session, os.getpid(), threading.RLock()
        self._session, self._events = None, None
        if inherited is not None and not self._backend.capabilities.survives_fork:
            self._closed = True
            raise ForkUnsupported(
                f"the client library of {self._target.scheme}:// does not survive a fork: "
                "open the Registry after the fork, or start the process with 'spawn'"
            )

    def _opened(self) -> Session:
        from sofa_registry_adapters.engine.session import Session

        self._after_fork()
        with self._lock:
            if self._closed:
                raise Closed(f"the registry {self._target} was closed: make a new one")
            if self._session is None:
                self._session = Session(self._backend, self._layout, self._target, self._clock, self.events)
            return self._session

    def _closing(self) -> Session | None:
        """Mark as closed; the session that is to be closed, if this process has one."""
        if self._pid != os.getpid():
            return None
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
            return session

    def _instances(
        self,
        service: ServiceKey,
        given: Address | Iterable[Address] | None,
        host: str | None,
        port: int | None,
        fields: Mapping[str, Any],
    ) -> tuple[Instance, ...]:
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
        instances = tuple(_instance(address, fields) for address in addresses)
        if len({one.instance_id for one in instances}) < len(instances):
            raise AlreadyPublished(f"two of the instances of {service} have the same instance_id")
        for one in instances:
            advertise.check_routable(one, self._target)
        return instances


def _instance(address: Address, fields: Mapping[str, Any]) -> Instance:
    if isinstance(address, Instance):
        return msgspec.structs.replace(address, state="up", **fields).checked()
    return Instance.of(address, **fields)


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
