"""Refusals one by one, kept apart by kind."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from keeper_desk import A, Answer, B, Desk, on_a_desk, one

from sofa_registry_adapters import ServiceKey
from sofa_registry_adapters.engine.keeper import wait_live
from sofa_registry_adapters.engine.retry import CONFLICT
from sofa_registry_adapters.errors import Conflict, Denied, Unavailable, ValueTooLarge
from sofa_registry_adapters.events import Published, RegistrationConflict, RegistrationLost, RegistrationRefused


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

    def test_an_answer_that_makes_no_sense_does_not_end_it(self) -> None:
        """What it says of one service comes after another one of the same answer was done with."""

        async def main() -> None:
            async with asyncio.timeout(10), Desk(announces=False) as desk:
                leaving = desk.publish("x")
                await wait_live(leaving, 5)
                gone, coming = desk.keeper.withdraw(leaving), desk.publish("y", service=B)
                desk.backend.script = [cast("Answer", {B: "denied"})]
                await desk.pass_by(3)
                await gone
                await wait_live(coming, 5)
                assert (desk.backend.states(), desk.backend.states(B)) == ({}, {"y": "up"})
                assert A not in desk.keeper._due

        asyncio.run(main())

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
