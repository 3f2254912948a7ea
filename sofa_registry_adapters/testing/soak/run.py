"""One soak: clients, children, faults and a judge, round after round, until the time is over or something is violated."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.settings import redacted
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.clocks import JumpingClock
from sofa_registry_adapters.testing.faults.nemeses import NEMESES, possible
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.soak.actors import Actor
from sofa_registry_adapters.testing.soak.bounds import EXCHANGE, Bounds, backend_of, bounds_of, run_options
from sofa_registry_adapters.testing.soak.children import Child
from sofa_registry_adapters.testing.soak.clients import Consumer, Provider
from sofa_registry_adapters.testing.soak.judging import TOLD, Judge
from sofa_registry_adapters.testing.soak.model import Model
from sofa_registry_adapters.testing.soak.operating import Nemeses, Vandal, can_operate
from sofa_registry_adapters.testing.soak.plan import LONGEST, Shape
from sofa_registry_adapters.testing.soak.quiescence import Quiescence
from sofa_registry_adapters.testing.soak.report import Report, Settling
from sofa_registry_adapters.testing.soak.resources import Resources
from sofa_registry_adapters.testing.soak.sampling import Sampler
from sofa_registry_adapters.testing.soak.steps import HEAD, Log, Step

DRAIN = 60.0
"""Seconds in which every step that was begun has ended."""
STARTING = 180.0
"""The same for a server that is killed and started: on a busy machine some take more than a minute."""
CONNECT = 5.0
"""Seconds in which the registry has to answer for the first time."""
GRAVE = ("kill", "freeze", "reopen")
"""What a client does, or suffers, that its records may not survive."""
START = 20.0
"""Seconds in which the anchor is published."""


def new_namespace() -> str:
    """A namespace that no other run has."""
    return f"soak-{uuid.uuid4().hex[:12]}"


def shape_for(site: Site, shape: Shape) -> Shape:
    """The shape with the faults that the site has; without children where other processes see nothing."""
    line, server = possible(site, "line"), possible(site, "server")
    shared = backend_of(site.url).capabilities.shared
    return msgspec.structs.replace(
        shape,
        children=shape.children if shared else 0,
        line=tuple(one.name for one in line),
        server=tuple(one.name for one in server),
        lasting=tuple(one.name for one in (*line, *server) if one.lasts),
        records=can_operate(site.url),
    )


class Soak:
    """One run on a site, in a namespace of its own: the site's, as the option ``namespace``."""

    def __init__(self, site: Site, shape: Shape, *, log: Path | None = None, slack: float = 1.0) -> None:
        self.site = site
        self.shape = shape
        self.judge: Judge = Judge(Log(log), slack)
        self.options: dict[str, Value] = run_options(site)
        self.bounds: Bounds = bounds_of(site, self.options, slack)
        self._model = Model(shape.services)
        self._reader = Registry(site.url, options=self.options)
        self._counts_before: Mapping[str, int] = site.counts()
        self._resources: Resources = Resources(site.counts)
        self._settling = Settling()
        self._providers = [self._provider(number) for number in range(shape.providers)]
        self._consumers = [self._consumer(number) for number in range(shape.consumers)]
        self._children = [self._child(number) for number in range(shape.children)]
        self._quiescence = Quiescence(self.judge, self._model, self._reader, self.bounds)
        self._quiescence.providers = self._providers
        self._quiescence.consumers = self._consumers
        self._quiescence.children = self._children
        self._actors: dict[str, Actor] = {
            one.name: one for one in (*self._providers, *self._consumers, *self._children)
        }
        lines = [f"line {name}" for name in self._actors] if site.lines else []
        self._actors |= {name: Nemeses(name, self.judge, site) for name in (*lines, "server")}
        self._hurt: dict[str, float] = {}
        if shape.records:
            self._actors["operator"] = Vandal(self.judge, self._model, site.url, self.options)

    def _provider(self, number: int) -> Provider:
        url = self.site.url_of(f"provider {number}")

        def make(clock: JumpingClock) -> Registry:
            return Registry(url, options=self.options, clock=clock)

        return Provider(number, self.judge, self._model, make)

    def _consumer(self, number: int) -> Consumer:
        url = self.site.url_of(f"consumer {number}")
        # One of them compares so often that its comparisons meet every fault; the others live by what they are told.
        own: dict[str, Value] = {"reconcile": 0.2} if number == 0 else {}
        return Consumer(number, self.judge, self._model, lambda: Registry(url, options={**self.options, **own}))

    def _child(self, number: int) -> Child:
        return Child(number, self.judge, self._model, self.site.url_of(f"child {number}"), self.options)

    def run(self, rounds: Iterable[Sequence[Step]], seconds: float, *, seed: int, keep_going: bool = False) -> Report:
        """Rounds, until ``seconds`` are over or, unless it is to go on, something is violated."""
        began = time.monotonic()
        self.judge.log.write(HEAD, url=redacted(self.site.url), seed=seed, shape=msgspec.to_builtins(self.shape))
        with contextlib.closing(self._reader):
            self._play(rounds, began + seconds, keep_going=keep_going)
            self._end()
        report = self._report(seed, time.monotonic() - began)
        self.judge.log.write("end", report=msgspec.to_builtins(report))
        self.judge.log.close()
        return report

    def _play(self, rounds: Iterable[Sequence[Step]], until: float, *, keep_going: bool) -> None:
        began = time.monotonic()
        with contextlib.ExitStack() as closing:
            closing.callback(self._close)
            self._begin()
            sampler = Sampler(self.judge, self._consumers, self._model.anchored)
            closing.callback(sampler.stop)
            for steps in rounds:
                if time.monotonic() >= until or not (keep_going or self.judge.passed):
                    break
                self._round(steps)
            self._resources.judge(self.judge, time.monotonic() - began)

    def _begin(self) -> None:
        self._reader.services(timeout=CONNECT)
        for child in self._children:
            child.start()
        self._providers[0].anchor(START)
        for consumer in self._consumers:
            consumer.settle()
        for child in self._children:
            child.wait()
        self._settle()

    def _round(self, steps: Sequence[Step]) -> None:
        self.judge.round = steps[0].round
        self._guard(steps)
        began = time.monotonic()
        for step in steps:
            time.sleep(max(0.0, began + step.at - time.monotonic()))
            self._actor(step).post(step)
        self._drain()
        if any(one.verb == "unpublish" for one in steps) and any(one.verb in NEMESES for one in steps):
            # Who was cut off meanwhile has not seen the mark of those who left, and holds them as lost.
            self._model.note_death()
        self._settle()
        self._clean()

    def _actor(self, step: Step) -> Actor:
        return self._actors[f"{step.actor} {step.text('client')}".strip()]

    def _guard(self, steps: Sequence[Step]) -> None:
        """Whom nothing happens to in this round, in no view may be lost."""
        everybody = any(one.actor == "server" and not self._keeps_records(one) for one in steps)
        everybody |= any(one.verb == "delete" for one in steps)
        hurt = {one.text("client") for one in steps} | {one.actor for one in steps if one.verb in GRAVE}
        busy = {one.actor for one in steps}
        # What a lease has been counting down to comes true a while after the fault.
        now, safe = time.monotonic(), time.monotonic() - self.bounds.silent
        quiet = [name for name in self._actors if name not in busy | hurt and self._hurt.get(name, 0.0) < safe]
        self._hurt |= dict.fromkeys(self._actors if everybody else hurt, now + steps[-1].at + LONGEST)
        holders = () if everybody else quiet
        self._protect({service: self._model.of(service, holders) for service in self._model.services})

    def _protect(self, guard: Mapping[ServiceKey, frozenset[str]]) -> None:
        for provider in self._providers:
            provider.guard = guard
        for consumer in self._consumers:
            for ledger in consumer.ledgers():
                ledger.guard = guard.get(ledger.service, frozenset())

    def _keeps_records(self, step: Step) -> bool:
        return NEMESES[step.verb].keeps_records(self.site, step.seconds())

    def _drain(self) -> None:
        began = time.monotonic()
        for name, actor in self._actors.items():
            patience = STARTING if name == "server" else DRAIN
            if not actor.drained(max(0.0, began + patience - time.monotonic())):
                self.judge.violated("I10", f"{name} still hangs {patience:g} s after the round")

    def _clean(self) -> None:
        vandal = self._actors.get("operator")
        if vandal is not None:
            vandal.post(Step(round=self.judge.round, at=0.0, actor="operator", verb="clean"))
            vandal.drained(DRAIN)

    def _settle(self) -> None:
        seconds = self._quiescence.reached()
        self._settling.add(seconds)
        children = sum(child.alive for child in self._children)
        instances = sum(len(self._model.wanted(service)) for service in self._model.services)
        found = self._resources.sample(children, self.site.links, instances)
        self.judge.log.write("quiescence", seconds=seconds, resources=found)

    def _close(self) -> None:
        """Everybody leaves; children are killed, and so their records stay for a while."""
        self._protect({})
        self.site.heal()
        for client in (*self._providers, *self._consumers):
            with contextlib.suppress(RegistryError):
                client.close()
        for child in self._children:
            child.kill()
        for actor in self._actors.values():
            actor.end()

    def _end(self) -> None:
        """Nothing is left behind, in the registry and on the server."""
        deadline = time.monotonic() + self.bounds.silent + self.judge.slack
        while left := self._left():
            if time.monotonic() >= deadline:
                for what in left:
                    self.judge.violated("I11", what)
                break
            time.sleep(0.1)
        self.judge.look("I11")
        self._reader.close()

    def _left(self) -> list[str]:
        try:
            found = {service: self._reader.lookup(service, timeout=EXCHANGE) for service in self._model.services}
        except RegistryError as error:
            return [f"the registry does not answer: {error}"]
        left = [f"{len(view)} instances of {service} are left behind" for service, view in found.items() if view]
        counts = self.site.counts()
        # The reader is still there; what the product keeps for ever, such as empty parents, is not looked at.
        held = {
            name: counts[name] - self._counts_before.get(name, 0) for name in ("watches", "leases") if name in counts
        }
        return left + [f"the server still holds {count} {name}" for name, count in held.items() if count > 1]

    def _report(self, seed: int, seconds: float) -> Report:
        judge = self.judge
        return Report(
            backend=f"{backend_of(self.site.url).schemes[0]}://",
            seed=seed,
            seconds=round(seconds, 1),
            rounds=judge.round,
            passed=judge.passed,
            violations=judge.violations[:TOLD],
            violated=len(judge.violations),
            looked=dict(sorted(judge.looked.items())),
            calls=dict(sorted(judge.calls.items())),
            failed=dict(sorted(judge.failed.items())),
            longest_overrun=round(judge.longest, 3),
            settled=self._settling.figures(),
            bounds=self.bounds,
            trends=self._resources.trends(),
            shape=self.shape,
        )
