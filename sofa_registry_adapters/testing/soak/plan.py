"""What happens in a soak: drawn from a seed alone, so that the same seed and shape give the same steps again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import msgspec

from sofa_registry_adapters.testing.soak.steps import Argument, Step

ANCHOR = 0
"""The provider that always has instances of every service but the last."""
SLOTS = 3
"""Registrations that a provider may have of one service besides."""
SEATS = 2
"""Subscriptions that a consumer may have of one service."""
LISTENERS = ("plain", "plain", "raising", "sleeping", "reentrant", "watch")
LONGEST = 3.0
"""Seconds that a fault lasts at most."""
_DURATIONS = (0.05, 0.2, 0.5, 1.0, 2.0, LONGEST)
_WINDOWS = (0.2, 0.5, 1.0, 2.0)
_HOUR = 3600.0
_ROUNDS = ("calm", "line", "server", "process", "mixed")


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each, and which faults there are: names of `NEMESES`; of them ``lasting`` go on for a while."""

    providers: int = 3
    consumers: int = 2
    children: int = 1
    services: int = 4
    line: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    records: bool = False
    """Whether records can be deleted and written behind the library's back."""


class Plan:
    """Rounds of steps, for ever. It knows what it has planned, not what became of it."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self._random = random.Random(seed)  # noqa: S311  it has to be the same again
        self._shape = shape
        self._round = 0
        self._serial = 0
        self._slots: set[tuple[int, int, int]] = set()
        self._seats: set[tuple[int, int, int]] = set()
        self._living: set[int] = set(range(shape.children))

    def rounds(self) -> Iterator[list[Step]]:
        """The next round, and the next."""
        while True:
            self._round += 1
            yield self._steps()

    def _steps(self) -> list[Step]:
        kind = self._random.choice(_ROUNDS)
        window = self._random.choice(_WINDOWS)
        count = self._random.randint(3, 14)
        moments = sorted(round(self._random.uniform(0.0, window), 3) for _ in range(count))
        operations = [self._operation(at) for at in moments]
        return sorted(operations + self._faults(kind, window), key=lambda one: one.at)

    def _step(self, at: float, actor: str, verb: str, **arguments: Argument) -> Step:
        return Step(round=self._round, at=at, actor=actor, verb=verb, arguments=arguments)

    # What applications do.

    def _operation(self, at: float) -> Step:
        draw: Callable[[float], Step] = self._random.choices(
            (self._provider, self._consumer, self._renewal), (12, 8, 1)
        )[0]
        return draw(at)

    def _provider(self, at: float) -> Step:
        number = self._random.randrange(self._shape.providers)
        slot = number, self._random.randrange(self._shape.services), self._random.randrange(SLOTS)
        actor, place = f"provider {number}", {"service": slot[1], "slot": slot[2]}
        if self._random.random() < 0.1:
            return self._step(at, actor, "lookup", service=slot[1])
        self._serial += 1
        if slot not in self._slots:
            self._slots.add(slot)
            fields = {"count": self._random.randint(1, 4), "required": self._random.random() < 0.5}
            return self._step(at, actor, "publish", **place, **fields, weight=self._weight(), serial=self._serial)
        if self._random.random() < 0.5:
            return self._step(at, actor, "update", **place, weight=self._weight(), serial=self._serial)
        self._slots.discard(slot)
        return self._step(at, actor, "unpublish", **place)

    def _weight(self) -> int:
        return self._random.randint(1, 1000)

    def _consumer(self, at: float) -> Step:
        number = self._random.randrange(self._shape.consumers)
        service = self._random.randrange(self._shape.services)
        actor = f"consumer {number}"
        if self._random.random() < 0.3:
            verb = self._random.choice(("lookup", "services"))
            return self._step(at, actor, verb, service=service)
        seat = number, service, self._random.randrange(SEATS)
        if seat in self._seats:
            self._seats.discard(seat)
            return self._step(at, actor, "unsubscribe", service=service, seat=seat[2])
        self._seats.add(seat)
        kind, required = self._random.choice(LISTENERS), self._random.random() < 0.5
        return self._step(at, actor, "subscribe", service=service, seat=seat[2], listener=kind, required=required)

    def _renewal(self, at: float) -> Step:
        """A client that is closed and made anew; the anchor never is."""
        count = self._shape.providers + self._shape.consumers
        number = self._random.randrange(1, count)
        if number < self._shape.providers:
            self._slots = {one for one in self._slots if one[0] != number}
            return self._step(at, f"provider {number}", "reopen")
        return self._step(at, f"consumer {number - self._shape.providers}", "reopen")

    # What goes wrong.

    def _faults(self, kind: str, window: float) -> list[Step]:
        chosen: list[Step] = []
        if kind in ("line", "mixed"):
            chosen += self._line_faults(window, at_anchor=kind != "mixed")
        if kind in ("server", "mixed"):
            chosen += self._server_fault(window)
        if kind in ("process", "mixed"):
            chosen += self._process_fault(window)
        if kind not in ("server", "mixed") and self._random.random() < 0.4:
            # Not where the server may be gone: a bare store has no one who gives up for it.
            chosen += self._record_faults(window)
        return chosen

    def _line_faults(self, window: float, *, at_anchor: bool) -> list[Step]:
        """At most one fault for each line; the anchor's is spared where the server may be gone as well."""
        clients = [f"provider {number}" for number in range(0 if at_anchor else 1, self._shape.providers)]
        clients += [f"consumer {number}" for number in range(self._shape.consumers)]
        if not self._shape.line:
            return []
        hit = self._random.sample(clients, self._random.randint(1, min(3, len(clients))))
        return [self._nemesis(window, "line", self._shape.line, client=client) for client in hit]

    def _server_fault(self, window: float) -> list[Step]:
        return [self._nemesis(window, "server", self._shape.server)] if self._shape.server else []

    def _nemesis(self, window: float, actor: str, names: Sequence[str], **arguments: Argument) -> Step:
        name = self._random.choice(names)
        if name in self._shape.lasting:
            arguments["seconds"] = self._random.choice(_DURATIONS)
        return self._step(self._moment(window), actor, name, **arguments)

    def _process_fault(self, window: float) -> list[Step]:
        at, seconds = self._moment(window), self._random.choice(_DURATIONS)
        if not self._shape.children or self._random.random() < 0.3:
            number = self._random.randrange(self._shape.providers)
            hours = self._random.choice((-_HOUR, -1.0, 1.0, _HOUR))
            return [self._step(at, f"provider {number}", "jump", seconds=hours)]
        number = self._random.randrange(self._shape.children)
        actor = f"child {number}"
        if number not in self._living:
            self._living.add(number)
            return [self._step(at, actor, "start")]
        if self._random.random() < 0.5:
            return [self._step(at, actor, "freeze", seconds=seconds)]
        kill = self._step(at, actor, "kill")
        if self._random.random() < 0.6:
            return [kill, self._step(round(at + min(seconds, 1.0), 3), actor, "start")]
        self._living.discard(number)
        return [kill]

    def _record_faults(self, window: float) -> list[Step]:
        if not self._shape.records:
            return []
        verbs = [self._random.choice(("delete", "corrupt")) for _ in range(self._random.randint(1, 3))]
        return [
            self._step(
                self._moment(window),
                "operator",
                verb,
                service=self._random.randrange(self._shape.services),
                pick=self._random.randrange(1000),
            )
            for verb in verbs
        ]

    def _moment(self, window: float) -> float:
        return round(self._random.uniform(0.0, window), 3)
