"""The copy of a service out of step: the last known good with its age, also from the disk."""

from __future__ import annotations

import asyncio

from mirror_glass import Glass, on_glass, one, patch, snapshot

from sofa_registry_adapters.engine.retry import REACHABILITY
from sofa_registry_adapters.errors import Denied, Unavailable
from sofa_registry_adapters.testing.faults import eventually_async


class TestOutages:
    @on_glass
    async def test_a_short_cut_is_not_worth_a_word(self, glass: Glass) -> None:
        await glass.feed(snapshot("a", 1))
        glass.change()
        glass.backend.opening = [snapshot("a", 1)]
        await glass.feed(Unavailable("blink"))
        await glass.pass_by(1, 0.05)
        assert len(glass.backend.feeds) == 2
        assert glass.change() is None
        assert not glass.mirror.view().stale

    @on_glass
    async def test_a_longer_one_is_stale_with_its_age_and_ends(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1))
        glass.change()
        glass.backend.opening = [Unavailable("down") for _ in range(20)]
        await glass.feed(Unavailable("down"))
        await glass.pass_by(10)
        view = glass.mirror.view()
        assert view.stale
        assert glass.ids() == "ab"
        assert 9 <= view.age <= 10.5
        change = glass.change()
        assert change is not None
        assert change.stale
        assert (change.added, change.removed, change.updated) == ((), (), ())
        glass.backend.opening = [snapshot("ab", 1)]
        await glass.pass_by(2 * REACHABILITY.most)
        assert not glass.mirror.view().stale
        assert view.stale
        change = glass.change()
        assert change is not None
        assert not change.stale

    @on_glass
    async def test_the_age_is_the_time_out_of_step_not_since_the_last_change(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1))
        glass.backend.found = snapshot("ab", 1)
        await glass.pass_by(3600, 10)
        glass.backend.opening = [Unavailable("down") for _ in range(20)]
        await glass.feed(Unavailable("down"))
        await glass.pass_by(3)
        assert glass.mirror.view().stale
        assert glass.mirror.view().age <= 40

    @on_glass
    async def test_it_is_tried_for_ever_ever_more_slowly(self, glass: Glass) -> None:
        await glass.feed(Unavailable("down"))
        glass.backend.opening = [Unavailable("down") for _ in range(2000)]
        await glass.pass_by(300, 0.5)
        assert 300 / (REACHABILITY.most + 0.5) <= len(glass.backend.feeds) <= 300 / (REACHABILITY.most / 2) + 10
        glass.backend.opening = [snapshot("a", 1)]
        await glass.pass_by(2)
        assert glass.ids() == "a"

    @on_glass
    async def test_a_cut_opens_the_watch_again(self, glass: Glass) -> None:
        await glass.feed(snapshot("a", 1))
        glass.backend.opening = [snapshot("ab", 2)]
        glass.mirror.cut()
        await glass.pass_by(1, 0.05)
        assert len(glass.backend.feeds) == 2
        assert glass.backend.closed == 1
        assert glass.ids() == "ab"

    @on_glass
    async def test_a_defect_of_the_backend_does_not_end_it(self, glass: Glass) -> None:
        await glass.feed(snapshot("a", 1), KeyError("a defect"))
        glass.backend.opening = [TypeError("another"), snapshot("ab", 2)]
        await glass.pass_by(3)
        assert glass.ids() == "ab"

    @on_glass
    async def test_a_registry_that_never_answers_is_told_of(self, glass: Glass) -> None:
        glass.backend.opening = [Denied("no")] * 3
        await glass.feed(Denied("no"))
        await glass.pass_by(1)
        assert glass.mirror.failed.is_set()
        assert isinstance(glass.mirror.error, Denied)
        assert not glass.mirror.known.is_set()

    def test_a_first_answer_that_hangs_is_bounded(self) -> None:
        async def main() -> None:
            glass = Glass()
            glass.pace.call_timeout = 0.02
            async with asyncio.timeout(10), glass:
                await eventually_async(glass.mirror.failed.is_set)
                assert isinstance(glass.mirror.error, Unavailable)

        asyncio.run(main())

    def test_it_stops_at_once_in_every_state(self) -> None:
        async def main() -> None:
            for steps in ((), (snapshot("ab", 1),), (snapshot("a", 1), patch(2, removed="a")), (Unavailable("x"),)):
                async with asyncio.timeout(5), Glass() as glass:
                    await glass.feed(*steps)

        asyncio.run(main())


class TestPreload:
    def test_a_saved_view_is_stale_until_the_registry_answers(self) -> None:
        async def main() -> None:
            glass = Glass()
            glass.mirror.preload([one("a"), one("b")], 120.0)
            view = glass.mirror.view()
            assert (glass.ids(), view.stale, view.age) == ("ab", True, 120.0)
            change = glass.change()
            assert change is not None
            assert len(change.added) == 2
            async with glass:
                await glass.feed(snapshot("abc", 1))
                assert (glass.ids(), glass.mirror.view().stale, glass.mirror.view().protected) == ("abc", False, False)
                glass.mirror.preload([one("x")], 1.0)
                assert glass.ids() == "abc"

        asyncio.run(main())

    def test_a_registry_that_begins_anew_gets_time_to_know_everybody_again(self) -> None:
        """After a restart without its data its first list may be a part, as providers come back one after the other."""

        async def main() -> None:
            glass = Glass()
            async with glass:
                await glass.feed(snapshot("abcdefgh", 7))
                await glass.feed(snapshot("abcdef", 1, epoch="f"))
                assert (glass.ids(), glass.mirror.view().protected) == ("abcdefgh", True)
                await glass.feed(patch(2, changed="g", epoch="f"))
                glass.backend.found = snapshot("abcdefg", 2, epoch="f")
                await glass.pass_by(11)
                assert (glass.ids(), glass.mirror.view().protected) == ("abcdefg", False)
                await glass.feed(patch(3, removed="a", epoch="f"))
                assert glass.ids() == "bcdefg"

        asyncio.run(main())

    def test_a_registry_that_came_back_empty_does_not_empty_a_saved_view_at_once(self) -> None:
        async def main() -> None:
            glass = Glass()
            glass.mirror.preload([one("a"), one("b")], 120.0)
            async with glass:
                await glass.feed(snapshot("", 1))
                assert (glass.ids(), glass.mirror.view().stale, glass.mirror.view().protected) == ("ab", False, True)
                glass.backend.found = snapshot("", 1)
                await glass.pass_by(11)
                assert glass.ids() == ""

        asyncio.run(main())
