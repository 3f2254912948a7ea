"""Applications: a provider publishes, a consumer subscribes; both may be closed and made anew."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from sofa_registry_adapters.errors import Closed, RegistryError
from sofa_registry_adapters.handles import Registration, Subscription, Watch
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.faults.clocks import JumpingClock
from sofa_registry_adapters.testing.soak.actors import CLOSE, Actor
from sofa_registry_adapters.testing.soak.judging import Judge, Ledger
from sofa_registry_adapters.testing.soak.model import Model, Wanted
from sofa_registry_adapters.testing.soak.plan import ANCHOR
from sofa_registry_adapters.testing.soak.steps import Step

CALL = 0.7
"""The time-out of a verb, in seconds: less than many faults last."""
SLEEP = 0.2
ANCHORED = 3
"""Instances of each service that the anchor always has."""


class Client(Actor):
    """An application with one Registry."""

    def __init__(self, name: str, judge: Judge, model: Model, make: Callable[[], Registry]) -> None:
        self.model = model
        self.make = make
        self.registry: Registry = make()
        super().__init__(name, judge)

    def close(self) -> None:
        """Close the Registry, in time."""
        with self.judge.call("close", CLOSE):
            self.registry.close()

    @contextlib.contextmanager
    def call(self, verb: str) -> Iterator[None]:
        """A verb with the time-out `CALL`."""
        with self.judge.call(verb, CALL):
            yield


class Provider(Client):
    """Publishes; the model knows what should be there because of it."""

    def __init__(self, number: int, judge: Judge, model: Model, make: Callable[[JumpingClock], Registry]) -> None:
        self.number = number
        self.clock = JumpingClock()
        self.registrations: dict[tuple[int, int], Registration] = {}
        self.guard: Mapping[ServiceKey, frozenset[str]] = {}
        """The ids that nothing happens to: no lookup may miss them."""
        super().__init__(f"provider {number}", judge, model, lambda: make(self.clock))

    def verbs(self) -> dict[str, Callable[[Step], None]]:
        return {
            "publish": self._publish,
            "update": self._update,
            "unpublish": self._unpublish,
            "lookup": self._lookup,
            "reopen": self._reopen,
            "jump": lambda step: self.clock.jump(step.seconds()),
        }

    def anchor(self, timeout: float) -> None:
        """Publish what stays for the whole run. Raises `RegistryError`."""
        for number, service in enumerate(self.model.anchored):
            wanted = Wanted(self.name, 100, f"{self.name}/anchor")
            names = self._addresses(number, -1, ANCHORED)
            self.registrations[number, -1] = self._send(number, names, wanted, timeout=timeout, required=True)
            self.model.want(service, names, wanted)

    def _addresses(self, service: int, slot: int, count: int) -> list[str]:
        return [f"10.{self.number}.{service}.{20 * (slot + 1) + index + 1}:80" for index in range(count)]

    def _send(
        self, service: int, addresses: list[str], wanted: Wanted, *, timeout: float, required: bool
    ) -> Registration:
        return self.registry.publish(
            self.model.services[service],
            addresses,
            weight=wanted.weight,
            metadata={"who": wanted.who},
            required=required,
            timeout=timeout,
        )

    def _wanted(self, step: Step) -> Wanted:
        return Wanted(self.name, step.number("weight"), f"{self.name}/{step.number('serial')}")

    def _publish(self, step: Step) -> None:
        service, slot = step.number("service"), step.number("slot")
        if (service, slot) in self.registrations:
            return
        names, wanted = self._addresses(service, slot, step.number("count")), self._wanted(step)
        try:
            with self.call("publish"):
                registration = self._send(service, names, wanted, timeout=CALL, required=step.flag("required"))
                self.registrations[service, slot] = registration
                self.model.want(self.model.services[service], names, wanted)
        except RegistryError:
            # It may have been written, and is deleted then without having been announced as leaving.
            self.model.note_death()
            raise

    def _update(self, step: Step) -> None:
        registration = self.registrations.get((step.number("service"), step.number("slot")))
        if registration is None:
            return
        # It is wanted from now on, even if the registry does not answer in time.
        wanted = self._wanted(step)
        self.model.want(registration.service, _names(registration), wanted)
        with self.call("update"):
            registration.update(weight=wanted.weight, metadata={"who": wanted.who}, timeout=CALL)

    def _unpublish(self, step: Step) -> None:
        registration = self.registrations.pop((step.number("service"), step.number("slot")), None)
        if registration is None:
            return
        self.model.unwant(registration.service, _names(registration))
        with self.call("unpublish"):
            registration.unpublish(timeout=CALL)

    def _lookup(self, step: Step) -> None:
        """One read of the registry: a provider watches nothing."""
        service, expected = self.model.services[step.number("service")], self.guard
        with self.call("lookup"):
            found = {one.instance_id for one in self.registry.lookup(service, timeout=CALL)}
            lost = expected.get(service, frozenset()) - found
            self.judge.expect("I3", f"a lookup of {service} misses {sorted(lost)}", holds=not lost)

    def _reopen(self, _: Step) -> None:
        if self.number == ANCHOR:
            return
        self.model.unwant_all(self.name)
        self.registrations.clear()
        self.close()
        # Whoever cannot reach the registry cannot say good-bye.
        self.model.note_death()
        self.registry = self.make()

    def states(self) -> dict[str, str]:
        """How each registration stands, by its name."""
        return {f"{one.service} of {self.name}": one.state for one in tuple(self.registrations.values())}


class Seat:
    """One subscription of a consumer, or one watch, and the ledger that it writes."""

    def __init__(self, kind: str, required: bool, ledger: Ledger) -> None:  # noqa: FBT001
        self.kind = kind
        self.required = required
        self.ledger = ledger
        self.place: Subscription | Watch | None = None


class Consumer(Client):
    """Subscribes; a ledger for each subscription."""

    def __init__(self, number: int, judge: Judge, model: Model, make: Callable[[], Registry]) -> None:
        self.number = number
        self.seats: dict[tuple[int, int], Seat] = {}
        super().__init__(f"consumer {number}", judge, model, make)

    def verbs(self) -> dict[str, Callable[[Step], None]]:
        return {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "lookup": self._lookup,
            "services": self._services,
            "reopen": self._reopen,
        }

    def settle(self) -> None:
        """Watch every service for the whole run. Raises `RegistryError`."""
        for number in range(len(self.model.services)):
            self._sit(number, -1, "plain", required=True)

    def ledgers(self) -> list[Ledger]:
        """Those of the subscriptions that are there."""
        return [seat.ledger for seat in tuple(self.seats.values()) if seat.place is not None]

    def _subscribe(self, step: Step) -> None:
        place = step.number("service"), step.number("seat")
        if place not in self.seats:
            self._sit(*place, step.text("listener"), required=step.flag("required"))

    def _sit(self, service: int, number: int, kind: str, *, required: bool) -> None:
        key = self.model.services[service]
        seat = Seat(kind, required, Ledger(self.judge, f"{self.name}, {kind} {number}", key))
        # The first call comes before the subscription is there.
        listener = self._listener(seat)
        with self.call("watch" if kind == "watch" else "subscribe"):
            if kind == "watch":
                seat.place = self.registry.watch(key, required=required, timeout=CALL)
                threading.Thread(target=_iterate, args=(seat.place, seat.ledger), daemon=True).start()
            else:
                seat.place = self.registry.subscribe(key, listener, required=required, timeout=CALL)
            self.seats[service, number] = seat

    def _listener(self, seat: Seat) -> Callable[[InstancesChange], None]:
        def listen(change: InstancesChange) -> None:
            if seat.kind == "sleeping":
                time.sleep(SLEEP)
            if seat.kind == "reentrant":
                with contextlib.suppress(RegistryError):
                    self.registry.lookup(change.service, timeout=CALL)
            seat.ledger(change)
            if seat.kind == "raising":
                raise ValueError("a listener that fails, as it should")

        return listen

    def _unsubscribe(self, step: Step) -> None:
        seat = self.seats.pop((step.number("service"), step.number("seat")), None)
        if seat is not None and seat.place is not None:
            seat.place.close()

    def _lookup(self, step: Step) -> None:
        with self.call("lookup"):
            self.registry.lookup(self.model.services[step.number("service")], timeout=CALL)

    def _services(self, _: Step) -> None:
        with self.call("services"):
            self.registry.services(timeout=CALL)

    def _reopen(self, _: Step) -> None:
        seats, self.seats = self.seats, {}
        self.close()
        self.registry = self.make()
        for (service, number), seat in seats.items():
            self._sit(service, number, seat.kind, required=False)


def _names(registration: Registration) -> list[str]:
    return [one.instance_id for one in registration.instances]


def _iterate(watch: Watch, ledger: Ledger) -> None:
    with contextlib.suppress(Closed):
        for change in watch:
            ledger(change)
