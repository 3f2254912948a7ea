"""The copy of a service is never an empty list by a fault."""

from __future__ import annotations

import asyncio

import pytest
from mirror_glass import SERVICE, Glass, on_glass, patch, snapshot

from sofa_registry_adapters.errors import Denied, Unavailable
from sofa_registry_adapters.events import ProtectionEnded, ProtectionStarted


class TestProtection:
    @on_glass
    async def test_a_first_view_is_never_held(self, glass: Glass) -> None:
        await glass.feed(snapshot("", 1))
        assert not glass.mirror.view().protected

    @on_glass
    async def test_an_empty_list_is_held_and_a_confirming_read_ends_it(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1), snapshot("", 2, "wiped"))
        view = glass.mirror.view()
        assert (glass.ids(), view.protected, view.stale) == ("ab", True, False)
        glass.backend.found = snapshot("", 2, "wiped")
        await glass.pass_by(9.5)
        assert glass.ids() == "ab"
        await glass.pass_by(1)
        assert glass.ids() == ""
        assert not glass.mirror.view().protected
        assert view.protected
        assert [event for event in glass.events if isinstance(event, ProtectionStarted | ProtectionEnded)] == [
            ProtectionStarted(SERVICE, ("a", "b")),
            ProtectionEnded(SERVICE, confirmed=True),
        ]

    @pytest.mark.parametrize("error", (Unavailable("down"), Denied("no"), KeyError("a defect")))
    def test_a_read_that_fails_prolongs_it(self, error: Exception) -> None:
        @on_glass
        async def test(glass: Glass) -> None:
            await glass.feed(snapshot("ab", 1), patch(2, removed="ab"))
            glass.backend.found = error
            await glass.pass_by(60)
            assert glass.ids() == "ab"
            assert glass.mirror.view().protected
            glass.backend.found = snapshot("", 2)
            await glass.pass_by(3)
            assert glass.ids() == ""

        test()

    @on_glass
    async def test_what_comes_back_ends_it(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1), snapshot("", 2))
        glass.change()
        await glass.feed(patch(3, "a"))
        assert glass.mirror.view().protected
        await glass.feed(patch(4, "b"))
        assert not glass.mirror.view().protected
        assert glass.ids() == "ab"
        assert ProtectionEnded(SERVICE, confirmed=False) in glass.events
        await glass.pass_by(30)
        assert glass.ids() == "ab"

    @on_glass
    async def test_a_read_that_finds_some_keeps_these(self, glass: Glass) -> None:
        await glass.feed(snapshot("abcd", 1), snapshot("", 2))
        glass.backend.found = snapshot("ac", 3)
        await glass.pass_by(11)
        assert glass.ids() == "ac"
        assert not glass.mirror.view().protected

    @on_glass
    async def test_a_mark_in_a_hold_is_heard(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1), snapshot("", 2), patch(3, leaving="ab"))
        assert glass.ids() == ""
        assert not glass.mirror.view().protected

    @on_glass
    async def test_a_loss_during_a_confirming_read_is_no_ghost(self, glass: Glass) -> None:
        await glass.feed(snapshot("abcd", 1), patch(2, removed="ab"))
        glass.backend.gate = asyncio.Event()
        glass.backend.found = snapshot("cd", 2)
        await glass.pass_by(10.5)
        assert glass.backend.asked
        await glass.feed(patch(3, removed="cd"))
        glass.backend.found = snapshot("", 3)
        glass.backend.gate.set()
        await glass.calm()
        assert set("cd") <= set(glass.ids())
        assert glass.mirror.view().protected
        await glass.pass_by(12)
        assert glass.ids() == ""

    @on_glass
    async def test_a_later_loss_has_its_own_time(self, glass: Glass) -> None:
        await glass.feed(snapshot("abcd", 1), patch(2, removed="ab"))
        glass.backend.found = snapshot("", 3)
        await glass.pass_by(9.5)
        await glass.feed(patch(3, removed="cd"))
        await glass.pass_by(5)
        assert set("cd") <= set(glass.ids())
        await glass.pass_by(7)
        assert glass.ids() == ""

    @on_glass
    async def test_an_outage_in_a_hold_does_not_end_it(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1), snapshot("", 2))
        glass.backend.opening = [Unavailable("down") for _ in range(100)]
        await glass.feed(Unavailable("down"))
        await glass.pass_by(30)
        assert glass.ids() == "ab"
        glass.backend.opening = [snapshot("ab", 3)]
        await glass.pass_by(3)
        assert (glass.ids(), glass.mirror.view().protected) == ("ab", False)
