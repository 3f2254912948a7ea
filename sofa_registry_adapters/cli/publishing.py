"""The command `publish`: stays, says what happens to the registration, and withdraws when it is told to end."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import NamedTuple

from sofa_registry_adapters.cli.screen import clock, note, say
from sofa_registry_adapters.errors import InvalidArgument, RegistryError
from sofa_registry_adapters.handles import Registration
from sofa_registry_adapters.model import events
from sofa_registry_adapters.registry import Registry


class Wish(NamedTuple):
    """What the user asked to be published."""

    service: str
    addresses: Sequence[str]
    port: int | None
    weight: int | None
    zone: str | None
    protocol: str | None
    metadata: Sequence[str]
    disabled: bool


def publish(wish: Wish, url: str | None, timeout: float) -> None:
    """Publish until interrupted; gone from the registry when this returns."""
    if bool(wish.addresses) == (wish.port is not None):
        raise InvalidArgument(
            "publish needs addresses as host:port, or --port for the address of this machine, not both: "
            f"for example sofa-registry publish {wish.service} 10.0.0.7:12200"
        )
    metadata = read_metadata(wish.metadata)
    with Registry(url) as registry:
        news: SimpleQueue[events.Event] = SimpleQueue()
        registry.events.on(events.Event, news.put)
        registration = registry.publish(
            wish.service,
            list(wish.addresses) or None,
            port=wish.port,
            weight=wish.weight,
            zone=wish.zone,
            protocol=wish.protocol,
            metadata=metadata,
            enabled=False if wish.disabled else None,
            timeout=timeout,
        )
        _stay(registration, registry, news)
        _withdraw(registration, timeout)


def read_metadata(pairs: Sequence[str]) -> dict[str, str]:
    """A mapping from ``key=value`` texts. Raises `InvalidArgument`."""
    read: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InvalidArgument(f"--metadata takes key=value, not {pair!r}")
        if key in read:
            raise InvalidArgument(f"--metadata gives {key!r} twice: keep one")
        read[key] = value
    return read


def _stay(registration: Registration, registry: Registry, news: SimpleQueue[events.Event]) -> None:
    shown = ", ".join(one.address for one in registration.instances)
    _report("live", f"{registration.service}  {shown}  on {registry.target}")
    before = "live"
    try:
        while True:
            event = news.get()
            if isinstance(event, events.Published) and before == "live":
                continue
            if line := describe(event):
                before = line[0]
                _report(*line)
    except KeyboardInterrupt:
        return


def describe(event: events.Event) -> tuple[str, str] | None:
    """The state that an event leads to, and a sentence about it; None if it is of no interest here."""
    line: tuple[str, str] | None = None
    match event:
        case events.Published():
            line = "live", f"{event.service}  {', '.join(event.instance_ids)}"
        case events.RegistrationLost():
            line = "lost", f"{event.service}: {event.reason}; it is being published again"
        case events.RegistrationConflict():
            line = "conflict", f"{event.service}: {event.reason}; it comes back when the other leaves"
        case events.RegistrationRefused():
            line = "refused", f"{event.service}: {event.reason}; it is tried again"
        case events.BackendLost():
            line = "unreachable", f"{event.backend}: {event.reason}"
        case events.BackendRestored():
            line = "reachable", f"{event.backend}, after {event.seconds:.1f} s"
        case _:
            pass
    return line


def _withdraw(registration: Registration, timeout: float) -> None:
    try:
        registration.unpublish(timeout=timeout)
    except RegistryError as error:
        note(f"not confirmed as withdrawn: {error}")
        raise SystemExit(1) from None
    _report("withdrawn", str(registration.service))


def _report(state: str, text: str) -> None:
    say(f"{clock()}  {state:<11} {text}")
