"""The copy of a service in step: snapshots and patches, comparisons, polling, records that cannot be read, a store below."""

from __future__ import annotations

import asyncio
import logging

import pytest
from mirror_glass import SERVICE, Glass, on_glass, one, patch, snapshot

from sofa_registry_adapters import Revision
from sofa_registry_adapters.backends.memory import BACKEND, space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.events import InstancesChanged, ProtectionStarted, RecordRejected
from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.registry import Patch, Rejected, Snapshot
from sofa_registry_adapters.spi.store import Record, RecordKey
from sofa_registry_adapters.testing.clock import ManualClock


class TestFollowing:
    @on_glass
    async def test_a_snapshot_then_patches(self, glass: Glass) -> None:
        assert not glass.mirror.known.is_set()
        await glass.feed(snapshot("ab", 1))
        assert glass.mirror.known.is_set()
        assert glass.ids() == "ab"
        await glass.feed(patch(2, "c"), patch(3, removed="a"))
        assert glass.ids() == "bc"
        assert glass.mirror.view().revision == Revision("e", 3)
        assert not glass.mirror.view().stale

    @on_glass
    async def test_an_empty_service_is_known(self, glass: Glass) -> None:
        await glass.feed(snapshot("", 0))
        assert glass.mirror.known.is_set()
        change = glass.change()
        assert change is not None
        assert not change.instances

    @on_glass
    async def test_what_is_leaving_is_gone_at_once_and_needs_no_protection(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1), patch(2, leaving="ab"))
        assert glass.ids() == ""
        await glass.feed(patch(3, removed="ab"))
        assert not glass.mirror.view().protected
        assert ProtectionStarted not in glass.kinds()

    @on_glass
    async def test_what_is_leaving_is_not_in_a_first_view(self, glass: Glass) -> None:
        await glass.feed(Snapshot(Revision("e", 1), (one("a"), one("b", state="leaving"))))
        assert glass.ids() == "a"

    @on_glass
    async def test_within_an_epoch_it_never_goes_back(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 5), patch(4, removed="b"), patch(3, "c"))
        assert glass.ids() == "ab"
        assert glass.mirror.view().revision.counter == 5

    @on_glass
    async def test_a_counter_that_goes_back_is_another_era(self, glass: Glass) -> None:
        await glass.feed(snapshot("abc", 50))
        before = glass.mirror.view().revision
        await glass.feed(Unavailable("restart"))
        await glass.pass_by(1)
        await glass.feed(snapshot("abd", 3))
        after = glass.mirror.view().revision
        assert after.epoch != before.epoch
        assert glass.ids() == "abcd"
        await glass.feed(patch(4, "e"))
        assert glass.mirror.view().revision == Revision(after.epoch, 4)
        assert glass.ids() == "abcde"
        glass.backend.found = snapshot("abde", 4)
        await glass.pass_by(11)
        assert glass.ids() == "abde"

    @on_glass
    async def test_another_epoch_is_taken_whole(self, glass: Glass) -> None:
        await glass.feed(snapshot("abc", 50), snapshot("abd", 3, "f"))
        assert glass.mirror.view().revision == Revision("f", 3)
        assert glass.ids() == "abcd"
        glass.backend.found = snapshot("abd", 3, "f")
        await glass.pass_by(11)
        assert glass.ids() == "abd"

    @on_glass
    async def test_a_message_that_a_comparison_was_faster_than_opens_the_watch_again(self, glass: Glass) -> None:
        """What it took away may have been read later than it says, and is not told once more."""
        await glass.feed(snapshot("abc", 5))
        glass.backend.found = snapshot("abc", 9)
        await glass.pass_by(40)
        assert glass.mirror.view().revision == Revision("e", 9)
        glass.backend.opening = [snapshot("ab", 10)]
        await glass.feed(patch(7, removed="c"))
        await glass.pass_by(1)
        assert len(glass.backend.feeds) == 2
        assert glass.ids() == "ab"

    @on_glass
    async def test_changes_are_told_on_the_bus_if_anybody_listens(self, glass: Glass) -> None:
        await glass.feed(snapshot("a", 1))
        assert InstancesChanged not in glass.kinds()
        glass.bus.on(InstancesChanged, print)
        await glass.feed(patch(2, "b"))
        (event,) = (event for event in glass.events if isinstance(event, InstancesChanged))
        assert [item.instance_id for item in event.change.added] == ["b"]

    @on_glass
    async def test_what_changes_nothing_is_no_news(self, glass: Glass) -> None:
        await glass.feed(snapshot("a", 1))
        assert glass.change() is not None
        await glass.feed(snapshot("a", 2), patch(3, "a"), patch(4, removed="x"))
        assert glass.change() is None
        assert glass.mirror.view().revision.counter == 4


class TestReconciling:
    @on_glass
    async def test_a_lost_event_is_found(self, glass: Glass) -> None:
        await glass.feed(snapshot("abcd", 1))
        glass.backend.found = snapshot("abce", 3)
        await glass.pass_by(40)
        assert glass.ids() == "abce"
        assert glass.backend.asked[0] == Revision("e", 1)

    @on_glass
    async def test_without_a_change_it_is_one_cheap_question_each_time(self, glass: Glass) -> None:
        await glass.feed(snapshot("a", 1))
        glass.change()
        glass.backend.found = snapshot("a", 1)
        await glass.pass_by(300, 1)
        assert 300 / 36 - 1 <= len(glass.backend.asked) <= 300 / 24 + 1
        assert set(glass.backend.asked) == {Revision("e", 1)}
        assert glass.change() is None

    @on_glass
    async def test_now_and_then_all_is_read(self, glass: Glass) -> None:
        await glass.feed(snapshot("abcd", 1))
        # The same revision and another content: only a full read can tell.
        glass.backend.found = snapshot("abce", 1)
        await glass.pass_by(700, 1)
        assert None in glass.backend.asked
        assert glass.ids() == "abce"

    @on_glass
    async def test_a_read_that_is_older_changes_nothing(self, glass: Glass) -> None:
        await glass.feed(snapshot("ab", 1))
        glass.backend.gate = asyncio.Event()
        glass.backend.found = snapshot("a", 1)
        glass.pace.full_read = 0
        await glass.pass_by(40)
        await glass.feed(patch(5, "c"))
        glass.backend.opening = [snapshot("abc", 5)]
        glass.backend.gate.set()
        await glass.pass_by(1, 0.05)
        assert glass.ids() == "abc"

    @pytest.mark.parametrize("error", (Unavailable("slow"), KeyError("a defect")))
    def test_a_read_that_fails_is_made_again(self, error: Exception) -> None:
        @on_glass
        async def test(glass: Glass) -> None:
            await glass.feed(snapshot("abcd", 1))
            glass.backend.found = error
            await glass.pass_by(100, 1)
            assert glass.ids() == "abcd"
            glass.backend.found = snapshot("abce", 9)
            await glass.pass_by(40, 1)
            assert glass.ids() == "abce"

        test()

    @on_glass
    async def test_another_epoch_opens_the_watch_again(self, glass: Glass) -> None:
        await glass.feed(snapshot("abcd", 9))
        glass.backend.opening = [snapshot("abce", 2, "f")]
        glass.backend.found = snapshot("abce", 2, "f")
        await glass.pass_by(60)
        assert len(glass.backend.feeds) == 2
        assert glass.ids() == "abce"


class TestRejected:
    @on_glass
    async def test_it_is_reported_once_a_minute(self, glass: Glass) -> None:
        bad = (Rejected("r", "no JSON"),)
        for counter in range(1, 130):
            await glass.feed(Patch(Revision("e", counter), rejected=bad))
            glass.clock.advance(1)
        assert [event for event in glass.events if isinstance(event, RecordRejected)] == [
            RecordRejected(SERVICE, "r", "no JSON")
        ] * 3

    @on_glass
    async def test_each_record_for_itself(self, glass: Glass) -> None:
        several = tuple(Rejected(str(number), "bad") for number in range(1500))
        await glass.feed(snapshot("a", 1, rejected=several))
        assert glass.kinds().count(RecordRejected) == 1500
        assert len(glass.mirror._reported) <= 1001

    def test_a_message_has_no_line_break_of_the_record(self, caplog: pytest.LogCaptureFixture) -> None:
        @on_glass
        async def test(glass: Glass) -> None:
            await glass.feed(snapshot("a", 1, rejected=(Rejected("r\nfake", "bad"),)))

        with caplog.at_level(logging.WARNING):
            test()
        assert not any("\n" in record.getMessage() for record in caplog.records)


class TestPolling:
    def test_without_push_it_asks(self) -> None:
        async def main() -> None:
            glass = Glass(push=False)
            glass.backend.found = snapshot("a", 1)
            async with asyncio.timeout(10), glass:
                assert glass.ids() == "a"
                glass.backend.found = snapshot("ab", 2)
                await glass.pass_by(3)
                assert glass.ids() == "ab"
                assert Revision("e", 1) in glass.backend.asked
                glass.backend.found = Unavailable("down")
                await glass.pass_by(5)
                assert glass.mirror.view().stale
                glass.backend.found = snapshot("ab", 2)
                await glass.pass_by(5)
                assert not glass.mirror.view().stale
                assert not glass.backend.feeds

        asyncio.run(main())


class TestOnAStore:
    """The mirror over a real store: records that become corrupt."""

    def test_the_last_good_value_outlives_full_reads_and_cuts(self, request: pytest.FixtureRequest) -> None:
        name, clock, layout = request.node.name, ManualClock(), NativeLayout()

        async def main() -> None:
            store = MemoryStore(parse_target(f"memory://{name}?lease=1h", BACKEND), clock)
            registry = StoreRegistry(store, layout)
            await registry.open()
            for item in (one("a"), one("b", weight=7)):
                space(name).write_behind(layout.record(SERVICE, item))
            glass = Glass(backend=registry, clock=clock)
            async with asyncio.timeout(10), glass:
                assert glass.ids() == "ab"
                space(name).write_behind(Record(layout.bucket(SERVICE).path, "b", b"{corrupt"))
                await glass.calm()
                assert RecordRejected in glass.kinds()
                assert glass.ids() == "ab"
                await glass.pass_by(1400, 5)
                assert glass.ids() == "ab"
                glass.mirror.cut()
                await glass.pass_by(2)
                assert glass.ids() == "ab"
                space(name).write_behind(layout.record(SERVICE, one("b", weight=9)))
                await glass.calm()
                assert {item.weight for item in glass.mirror.view()} == {100, 9}
                space(name).delete_behind(RecordKey(layout.bucket(SERVICE).path, "b"))
                await glass.calm()
                assert glass.ids() == "a"
            await registry.close()

        asyncio.run(main())
