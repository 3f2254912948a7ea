"""Whatever happens in whatever order, the registry has what is wanted in the end."""

from __future__ import annotations

import asyncio
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keeper_desk import A, B, Desk, on_a_desk, one

from sofa_registry_adapters.engine.publication import Publication
from sofa_registry_adapters.errors import Conflict, Denied, Unavailable


class Random:
    """A run of verbs and faults."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.published: dict[int, Publication] = {}
        self.withdrawn: list[asyncio.Future[None]] = []

    def publish(self, number: int) -> None:
        if number not in self.published:
            self.published[number] = self.desk.publish(str(number), service=(A, B)[number % 2])

    def withdraw(self, number: int) -> None:
        if number in self.published:
            self.withdrawn.append(self.desk.keeper.withdraw(self.published.pop(number)))

    def update(self, number: int) -> None:
        if number in self.published:
            self.desk.keeper.replace(self.published[number], (one(str(number), 50 + number),))

    def lose(self, number: int) -> None:
        self.desk.backend.there.pop((A, B)[number % 2], None)
        self.desk.keeper.missing({(A, B)[number % 2]: frozenset()}, "lost")

    def cut(self, number: int) -> None:
        self.desk.backend.script += [Unavailable("cut")] * number

    def refuse(self, number: int) -> None:
        error = (Denied, Conflict, Unavailable)[number % 3]("no")
        self.desk.backend.refuse = lambda _, item: error if item.instance_id == str(number) else None

    def heal(self, number: int) -> None:
        self.desk.backend.script.clear()
        self.desk.backend.refuse = lambda *_: None

    async def wait(self, number: int) -> None:
        await self.desk.pass_by(number / 4, 0.25)

    def check(self) -> None:
        for service in (A, B):
            wanted = {
                str(number): item.instances[0] for number, item in self.published.items() if item.service == service
            }
            assert self.desk.backend.there.get(service, {}) == wanted
        assert all(item.state == "live" for item in self.published.values())
        assert all(done.done() for done in self.withdrawn)


VERBS = ("publish", "withdraw", "update", "lose", "cut", "refuse", "heal", "wait")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 5)), max_size=25), st.integers())
def test_whatever_happens_the_registry_has_what_is_wanted_in_the_end(steps: list[tuple[str, int]], seed: int) -> None:
    """A random run of verbs and faults; then peace, and the registry has just what is published."""
    random.seed(seed)

    @on_a_desk
    async def test(desk: Desk) -> None:
        run = Random(desk)
        for verb, number in steps:
            work = getattr(run, verb)(number)
            if work is not None:
                await work
            await asyncio.sleep(0)
        run.heal(0)
        await desk.pass_by(35, 0.5)
        run.check()

    test()
