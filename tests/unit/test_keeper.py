"""What is wanted becomes true, for ever: refusals one by one, unknown outcomes, and a withdrawal that always wins."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Self

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sofa_registry_adapters import Instance, Revision, ServiceKey
from sofa_registry_adapters.engine.keeper import Keeper, wait_live
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.engine.publication import Publication
from sofa_registry_adapters.engine.retry import CONFLICT, REACHABILITY, REFUSAL
from sofa_registry_adapters.errors import (
    AlreadyPublished,
    Closed,
    Conflict,
    DeadlineExceeded,
    Denied,
    RegistryError,
    Unavailable,
    ValueTooLarge,
)
from sofa_registry_adapters.events import (
    BackendLost,
    BackendRestored,
    Event,
    Published,
    RegistrationConflict,
    RegistrationLost,
    RegistrationRefused,
    Withdrawn,
)
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Snapshot, Wanted
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import eventually_async

A, B = ServiceKey("a"), ServiceKey("b")
Answer = Mapping[ServiceKey, RegistryError] | Exception


class Scripted(RegistryBackend):
    """A registry that answers as a test says, and has what it did not refuse."""

    def __init__(self, *, announces: bool = True) -> None:
        self.there: dict[ServiceKey, dict[str, Instance]] = {}
        self.calls: list[tuple[dict[ServiceKey, tuple[Instance, ...]], list[ServiceKey]]] = []
        self.script: list[Answer | Callable[[], Awaitable[Answer | None]]] = []
        self.refuse: Callable[[ServiceKey, Instance], RegistryError | None] = lambda *_: None
        self._announces = announces

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(announces_withdrawal=self._announces)

    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        self.calls.append((dict(wanted.instances), list(changed)))
        if self.script:
            step = self.script.pop(0)
            answer = await step() if callable(step) else step
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                self._apply(wanted, changed, answer)
                return answer
        return self._apply(wanted, changed, {})

    def _apply(
        self, wanted: Wanted, changed: Collection[ServiceKey], answer: Mapping[ServiceKey, RegistryError]
    ) -> Mapping[ServiceKey, RegistryError]:
        errors = dict(answer)
        for service in changed:
            if service in answer:
                continue
            there: dict[str, Instance] = {}
            refused: list[RegistryError] = []
            for one in wanted.instances.get(service, ()):
                error = self.refuse(service, one)
                if error is None:
                    there[one.instance_id] = one
                else:
                    refused.append(error.about(frozenset((one.instance_id,))))
            self.there[service] = there
            if refused:
                errors[service] = refused[0].beside(refused[1:])
        return errors

    def states(self, service: ServiceKey = A) -> dict[str, str]:
        return {name: one.state for name, one in self.there.get(service, {}).items()}

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        return {}

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        return Snapshot(Revision())

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        yield Snapshot(Revision())

    async def services(self) -> Sequence[ServiceKey]:
        return ()


class Pace(msgspec.Struct):
    call_timeout: float = 5.0
    leaving: float = 0.2


class Desk:
    """A keeper on a scripted registry, with the clock in the test's hand."""

    def __init__(self, *, announces: bool = True) -> None:
        self.clock = ManualClock()
        self.backend = Scripted(announces=announces)
        self.events: list[Event] = []
        self.link = Link("scripted://", self.clock, self.events.append)
        self.pace = Pace()
        self.keeper = Keeper(self.backend, self.pace, self.clock, self.link, self.events.append)

    async def __aenter__(self) -> Self:
        self.keeper.start()
        self.keeper.ready.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keeper.stop()

    def publish(self, *ids: str, service: ServiceKey = A, weight: int = 100) -> Publication:
        publication = Publication(service, tuple(one(name, weight) for name in ids))
        self.keeper.add(publication)
        return publication

    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]

    async def calm(self) -> None:
        """Until the keeper has nothing to do before the clock moves."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def pass_by(self, seconds: float, step: float = 0.1) -> None:
        await self.calm()
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await self.calm()


def one(name: str, weight: int = 100) -> Instance:
    return Instance(host="h", port=1, instance_id=name, weight=weight)


def on_a_desk(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*self: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(20), Desk() as desk:
                await test(*self, desk)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]  pytest would take `desk` for a fixture
    return run


@on_a_desk
async def test_what_is_published_is_live(desk: Desk) -> None:
    publication = desk.publish("x", "y")
    assert publication.state == "pending"
    await wait_live(publication, 5)
    assert publication.state == "live"
    assert desk.backend.states() == {"x": "up", "y": "up"}
    assert desk.kinds() == [Published]
    await desk.pass_by(100, 10)
    assert len(desk.backend.calls) == 1


@on_a_desk
async def test_only_what_changed_is_announced(desk: Desk) -> None:
    await wait_live(desk.publish("x"), 5)
    await wait_live(desk.publish("x", service=B), 5)
    wanted, changed = desk.backend.calls[-1]
    assert changed == [B]
    assert wanted.keys() == {A, B}


@on_a_desk
async def test_many_at_once_are_one_exchange(desk: Desk) -> None:
    several = [desk.publish("x", service=ServiceKey(str(number))) for number in range(200)]
    for publication in several:
        await wait_live(publication, 5)
    assert len(desk.backend.calls) == 1


@on_a_desk
async def test_the_same_id_twice_is_refused_at_once(desk: Desk) -> None:
    desk.publish("x", "y")
    with pytest.raises(AlreadyPublished, match="'y'"):
        desk.publish("y", "z")
    desk.publish("y", service=B)
    await desk.calm()
    assert desk.backend.states() == {"x": "up", "y": "up"}


@on_a_desk
async def test_an_update_is_announced_and_waited_for(desk: Desk) -> None:
    publication = desk.publish("x")
    await wait_live(publication, 5)
    desk.keeper.replace(publication, (one("x", 7),))
    assert not publication.settled
    await wait_live(publication, 5)
    assert desk.backend.there[A]["x"].weight == 7
    assert desk.kinds() == [Published]


@on_a_desk
async def test_an_update_during_an_announcement_is_announced_after_it(desk: Desk) -> None:
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    desk.backend.script = [slow]
    publication = desk.publish("x")
    await desk.calm()
    desk.keeper.replace(publication, (one("x", 7),))
    gate.set()
    await desk.calm()
    assert publication.state == "live"
    assert publication.settled
    assert desk.backend.there[A]["x"].weight == 7
    assert len(desk.backend.calls) == 2


class TestWithdrawal:
    @on_a_desk
    async def test_it_is_told_then_done(self, desk: Desk) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        done = desk.keeper.withdraw(publication)
        assert publication.state == "withdrawn"
        await desk.calm()
        assert desk.backend.states() == {"x": "leaving"}
        await desk.pass_by(0.1)
        assert not done.done()
        await desk.pass_by(0.2)
        assert done.done()
        assert desk.backend.states() == {}
        assert desk.kinds() == [Published, Withdrawn]
        assert not desk.keeper._services

    @on_a_desk
    async def test_a_mark_that_came_late_stays_as_long(self, desk: Desk) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        gate = asyncio.Event()

        async def late() -> None:
            await gate.wait()

        desk.backend.script = [late]
        done = desk.keeper.withdraw(publication)
        await desk.pass_by(1)
        gate.set()
        await desk.pass_by(0.1)
        assert desk.backend.states() == {"x": "leaving"}
        await desk.pass_by(0.2)
        assert done.done()
        assert desk.backend.states() == {}

    def test_without_marks_it_is_done_at_once(self) -> None:
        async def main() -> None:
            async with Desk(announces=False) as desk:
                publication = desk.publish("x")
                await wait_live(publication, 5)
                done = desk.keeper.withdraw(publication)
                await desk.calm()
                assert done.done()
                assert desk.backend.states() == {}

        asyncio.run(main())

    def test_what_was_never_attempted_is_gone_at_once(self) -> None:
        async def main() -> None:
            desk = Desk()
            publication = desk.publish("x")
            assert desk.keeper.withdraw(publication).done()
            async with desk:
                await desk.calm()
                assert desk.backend.states() == {}

        asyncio.run(main())

    @on_a_desk
    async def test_asked_for_again_it_is_the_same(self, desk: Desk) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        desk.backend.script = [Unavailable("down")] * 3
        done = desk.keeper.withdraw(publication)
        again = desk.keeper.withdraw(publication)
        await desk.calm()
        assert not again.done()
        await desk.pass_by(10)
        assert done.done()
        assert again.done()

    @on_a_desk
    async def test_it_wins_over_a_recovery_in_flight(self, desk: Desk) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        gate = asyncio.Event()

        async def slow() -> None:
            await gate.wait()

        desk.backend.script = [slow]
        desk.keeper.missing({A: frozenset()}, "gone")
        await desk.calm()
        assert len(desk.backend.calls) == 2
        done = desk.keeper.withdraw(publication)
        gate.set()
        await desk.pass_by(1)
        assert done.done()
        assert publication.state == "withdrawn"
        assert desk.backend.states() == {}
        desk.keeper.missing({A: frozenset()}, "late news")
        await desk.pass_by(5)
        assert desk.backend.states() == {}
        assert desk.kinds() == [Published, RegistrationLost, Withdrawn]

    @on_a_desk
    async def test_what_is_lost_of_a_service_does_not_taint_the_rest(self, desk: Desk) -> None:
        lost, whole = desk.publish("x"), desk.publish("y")
        await wait_live(lost, 5)
        await wait_live(whole, 5)
        gate = asyncio.Event()

        async def slow() -> None:
            await gate.wait()

        desk.backend.script = [slow]
        desk.keeper.missing({A: frozenset("x")}, "deleted")
        await desk.calm()
        assert (lost.state, whole.state) == ("lost", "live")
        gate.set()
        await desk.pass_by(1)
        assert (lost.state, whole.state) == ("live", "live")
        assert [one.instance_ids for one in desk.events if isinstance(one, RegistrationLost)] == [("x",)]

    @on_a_desk
    async def test_it_wins_over_an_outcome_that_is_unknown(self, desk: Desk) -> None:
        desk.backend.script = [Unavailable("no answer")]
        publication = desk.publish("x")
        await desk.calm()
        assert publication.state == "pending"
        done = desk.keeper.withdraw(publication, told=False)
        assert not done.done()
        await desk.pass_by(5)
        assert done.done()
        assert desk.backend.calls[-1][0].get(A, ()) == ()

    @on_a_desk
    async def test_published_again_while_leaving_it_stays(self, desk: Desk) -> None:
        first = desk.publish("x", weight=1)
        await wait_live(first, 5)
        done = desk.keeper.withdraw(first)
        await desk.calm()
        assert desk.backend.states() == {"x": "leaving"}
        second = desk.publish("x", weight=2)
        await desk.pass_by(5)
        assert done.done()
        assert second.state == "live"
        assert desk.backend.states() == {"x": "up"}
        assert desk.backend.there[A]["x"].weight == 2

    @on_a_desk
    async def test_a_refused_neighbour_does_not_hold_it_up(self, desk: Desk) -> None:
        desk.backend.refuse = lambda _, instance: Denied("no") if instance.instance_id == "bad" else None
        good, bad = desk.publish("good"), desk.publish("bad")
        await desk.calm()
        assert (good.state, bad.state) == ("live", "pending")
        done = desk.keeper.withdraw(good)
        calls = len(desk.backend.calls)
        await desk.pass_by(0.5)
        assert done.done()
        assert desk.backend.states() == {}
        assert len(desk.backend.calls) - calls < 10

    @on_a_desk
    async def test_a_withdrawn_one_cannot_be_updated(self, desk: Desk) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        desk.keeper.withdraw(publication)
        with pytest.raises(Closed):
            desk.keeper.replace(publication, (one("x", 7),))
        with pytest.raises(Closed):
            await wait_live(publication, 5)
        await desk.pass_by(1)
        with pytest.raises(Closed):
            desk.keeper.replace(publication, (one("x", 7),))

    @on_a_desk
    async def test_a_waiting_publisher_is_told(self, desk: Desk) -> None:
        desk.backend.script = [Unavailable("down")] * 100
        publication = desk.publish("x")
        waiting = asyncio.create_task(wait_live(publication, 5))
        await desk.calm()
        desk.keeper.withdraw(publication)
        with pytest.raises(Closed):
            await waiting


class TestRefusals:
    @on_a_desk
    async def test_of_two_services_one(self, desk: Desk) -> None:
        desk.backend.refuse = lambda service, _: Denied("not here") if service == B else None
        good, bad = desk.publish("x"), desk.publish("x", service=B)
        await wait_live(good, 5)
        with pytest.raises(Denied, match="not here"):
            await wait_live(bad, 5)
        assert (good.state, bad.state) == ("live", "pending")
        assert isinstance(bad.last_error, Denied)
        assert desk.kinds().count(RegistrationRefused) == 1
        await desk.pass_by(60, 1)
        assert desk.kinds().count(RegistrationRefused) == 1
        assert all(changed == [B] for _, changed in desk.backend.calls[1:])
        desk.backend.refuse = lambda *_: None
        await desk.pass_by(31, 1)
        assert bad.state == "live"

    @on_a_desk
    async def test_of_two_instances_one(self, desk: Desk) -> None:
        desk.backend.refuse = lambda _, item: ValueTooLarge("large") if item.instance_id == "bad" else None
        good, bad = desk.publish("good"), desk.publish("bad")
        with pytest.raises(ValueTooLarge):
            await wait_live(bad, 5)
        await wait_live(good, 5)
        assert desk.backend.states() == {"good": "up"}
        assert good.last_error is None

    @on_a_desk
    async def test_kinds_of_refusal_are_kept_apart(self, desk: Desk) -> None:
        errors = {"taken": Conflict("held"), "denied": Denied("no"), "away": Unavailable("slow")}
        desk.backend.refuse = lambda _, item: errors.get(item.instance_id)
        several = {name: desk.publish(name) for name in ("fine", *errors)}
        await desk.calm()
        assert {name: item.state for name, item in several.items()} == {
            "fine": "live",
            "taken": "conflict",
            "denied": "pending",
            "away": "pending",
        }
        assert [type(item.last_error) for item in several.values()] == [type(None), Conflict, Denied, Unavailable]
        desk.backend.refuse = lambda *_: None
        await desk.pass_by(5)
        assert {item.state for item in several.values()} == {"live"}

    @on_a_desk
    async def test_a_refusal_of_the_whole_service_is_everybodys(self, desk: Desk) -> None:
        desk.backend.script = [{A: Denied("no")}]
        several = [desk.publish("x"), desk.publish("y")]
        for publication in several:
            with pytest.raises(Denied):
                await wait_live(publication, 5)

    @on_a_desk
    async def test_a_conflict_is_told_once_and_ends_when_the_other_goes(self, desk: Desk) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        desk.backend.refuse = lambda *_: Conflict("a newer one")
        desk.keeper.missing({A: frozenset()}, "taken")
        await desk.pass_by(60, 1)
        assert publication.state == "conflict"
        assert desk.kinds() == [Published, RegistrationLost, RegistrationConflict]
        with pytest.raises(Conflict):
            await wait_live(publication, 5)
        desk.backend.refuse = lambda *_: None
        await desk.pass_by(CONFLICT.most + 0.2)
        assert publication.state == "live"
        assert publication.last_error is None
        assert desk.kinds()[-1] is Published

    @on_a_desk
    async def test_a_loss_is_repaired_at_once(self, desk: Desk) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        desk.backend.there.clear()
        desk.keeper.missing({A: frozenset(), ServiceKey("unknown"): frozenset()}, "wiped")
        assert publication.state == "lost"
        assert str(publication.last_error) == "wiped"
        await desk.calm()
        assert publication.state == "live"
        assert desk.backend.states() == {"x": "up"}
        assert desk.kinds() == [Published, RegistrationLost, Published]

    @on_a_desk
    async def test_an_update_that_is_refused_is_told_and_the_registration_is_not_lost_from_sight(
        self, desk: Desk
    ) -> None:
        publication = desk.publish("x")
        await wait_live(publication, 5)
        desk.backend.refuse = lambda _, item: ValueTooLarge("large") if item.weight == 7 else None
        desk.keeper.replace(publication, (one("x", 7),))
        with pytest.raises(ValueTooLarge):
            await wait_live(publication, 5)
        desk.keeper.replace(publication, (one("x", 8),))
        await wait_live(publication, 5)
        assert publication.state == "live"


class TestLateWithdrawals:
    @on_a_desk
    async def test_an_announcement_that_is_under_way_confirms_no_withdrawal_that_came_later(self, desk: Desk) -> None:
        gate = asyncio.Event()

        async def slow() -> None:
            await gate.wait()

        desk.backend.script = [slow]
        publication = desk.publish("x")
        await desk.calm()
        done = desk.keeper.withdraw(publication)
        desk.backend.script = [Unavailable("down")] * 3
        gate.set()
        await desk.calm()
        assert desk.backend.states() == {"x": "up"}
        assert not done.done()
        await desk.pass_by(5)
        assert done.done()
        assert desk.backend.states() == {}

    @on_a_desk
    async def test_an_answer_that_is_none_is_a_defect_and_not_the_end(self, desk: Desk) -> None:
        desk.backend.script = [{A: 7}]  # type: ignore[dict-item]
        publication = desk.publish("x")
        await desk.pass_by(5)
        await wait_live(publication, 5)


class TestReachability:
    @pytest.mark.parametrize(
        "error", (Unavailable("down"), OSError("a defect"), KeyError("a defect"), Denied("no login"))
    )
    def test_it_never_gives_up(self, error: Exception) -> None:
        @on_a_desk
        async def test(desk: Desk) -> None:
            desk.backend.script = [error] * 200
            publication = desk.publish("x")
            await desk.pass_by(60, 1)
            assert publication.state == "pending"
            # Not more often than the schedule says, and never less than once in its longest pause.
            assert 60 / (REACHABILITY.most + 1) <= len(desk.backend.calls) <= 70
            desk.backend.script.clear()
            await desk.pass_by(2 * REACHABILITY.most)
            assert publication.state == "live"
            assert desk.kinds().count(BackendLost) == 1
            assert desk.kinds().count(BackendRestored) == 1
            assert desk.link.up

        test()

    @on_a_desk
    async def test_a_live_registration_stays_live_in_an_outage(self, desk: Desk) -> None:
        live = desk.publish("x")
        await wait_live(live, 5)
        desk.backend.script = [Unavailable("down")] * 3
        waiting = desk.publish("y")
        await desk.calm()
        assert (live.state, waiting.state) == ("live", "pending")
        with pytest.raises(DeadlineExceeded, match="down"):
            await wait_live(waiting, 0.01)
        await desk.pass_by(5)
        assert waiting.state == "live"

    @on_a_desk
    async def test_credentials_that_are_refused_by_now_are_told_at_once(self, desk: Desk) -> None:
        live = desk.publish("x")
        await wait_live(live, 5)
        desk.backend.script = [Denied("wrong password")] * 3
        refused = desk.publish("y")
        with pytest.raises(Denied, match="wrong password"):
            await wait_live(refused, 5)
        assert (live.state, refused.state) == ("live", "pending")
        await desk.pass_by(5)
        assert refused.state == "live"

    @on_a_desk
    async def test_an_exchange_that_hangs_is_bounded_and_made_again(self, desk: Desk) -> None:
        desk.pace.call_timeout = 0.01

        async def hang() -> None:
            await asyncio.sleep(60)

        desk.backend.script = [hang]
        publication = desk.publish("x")
        await eventually_async(lambda: isinstance(publication.last_error, DeadlineExceeded))
        await desk.pass_by(2)
        assert publication.state == "live"

    def test_nothing_is_announced_before_the_registry_is_open(self) -> None:
        async def main() -> None:
            desk = Desk()
            desk.keeper.start()
            publication = desk.publish("x")
            await desk.calm()
            assert not desk.backend.calls
            desk.keeper.ready.set()
            await wait_live(publication, 5)
            await desk.keeper.stop()

        asyncio.run(main())


class TestSchedules:
    @given(st.integers(1, 10**6), st.sampled_from([REACHABILITY, REFUSAL, CONFLICT]))
    def test_a_pause_is_within_its_bounds(self, attempt: int, schedule: object) -> None:
        assert schedule.first / 2 <= schedule.delay(attempt) <= schedule.most  # type: ignore[attr-defined]

    def test_the_documented_ones(self) -> None:
        assert (REACHABILITY.first, REACHABILITY.most) == (0.05, 1.0)
        assert (REFUSAL.first, REFUSAL.most) == (1.0, 30.0)


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
