"""A withdrawal always wins: over recoveries, unknown outcomes and announcements that are under way."""

from __future__ import annotations

import asyncio

import pytest
from keeper_desk import A, Desk, on_a_desk, one

from sofa_registry_adapters.engine.keeper import wait_live
from sofa_registry_adapters.errors import Closed, Denied, Unavailable
from sofa_registry_adapters.events import Published, RegistrationLost, Withdrawn


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
        keeper = desk.keeper
        assert [keeper._services, keeper._wanted, keeper._due, keeper._marked] == [{}, {}, {}, {}]

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
