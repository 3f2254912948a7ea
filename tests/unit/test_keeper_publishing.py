"""What is wanted is announced once, kept through outages, and tried again by schedule."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keeper_desk import A, B, Desk, on_a_desk, one

from sofa_registry_adapters import ServiceKey
from sofa_registry_adapters.engine import keeper as keeping
from sofa_registry_adapters.engine.keeper import wait_live
from sofa_registry_adapters.engine.retry import CONFLICT, REACHABILITY, REFUSAL
from sofa_registry_adapters.errors import AlreadyPublished, DeadlineExceeded, Denied, Unavailable
from sofa_registry_adapters.events import BackendLost, BackendRestored, Published
from sofa_registry_adapters.testing.faults import eventually_async


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


def test_who_publishes_one_more_does_not_pay_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """All services are told to the backend, as they were; what one of them wants is made when it changes."""
    made: list[int] = []
    wanted = keeping._Service.wanted
    monkeypatch.setattr(keeping._Service, "wanted", lambda service: made.append(1) or wanted(service))

    async def main() -> None:
        async with asyncio.timeout(20), Desk() as desk:
            several = [desk.publish("x", service=ServiceKey(str(number))) for number in range(200)]
            await wait_live(several[-1], 5)
            made.clear()
            await wait_live(desk.publish("x"), 5)
            assert len(made) == 1
            told, changed = desk.backend.calls[-1]
            assert (len(told), changed) == (201, [A])
            await desk.keeper.withdraw(several[0], told=False)
            assert len(desk.backend.calls[-1][0]) == 201
            await wait_live(desk.publish("y", service=B), 5)
            assert several[0].service not in desk.backend.calls[-1][0]

    asyncio.run(main())


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
