"""The copy of a service: in step when it can be, the last known good when it cannot, never an empty list by a fault."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Self

import msgspec
import pytest

from sofa_registry_adapters import Instance, InstancesChange, Revision, ServiceKey
from sofa_registry_adapters.backends.memory import BACKEND, space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine.mailbox import Events, Mailbox, ThreadCourier
from sofa_registry_adapters.engine.mirror import Mirror
from sofa_registry_adapters.engine.retry import REACHABILITY
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.events import Event, InstancesChanged, ProtectionEnded, ProtectionStarted, RecordRejected
from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Rejected, Snapshot, Wanted
from sofa_registry_adapters.spi.store import Record, RecordKey
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import eventually_async

SERVICE = ServiceKey("a")
Step = Snapshot | Patch | Exception


def one(name: str, **fields: object) -> Instance:
    return Instance(host="h", port=1, instance_id=name, **fields)  # type: ignore[arg-type]


def snapshot(ids: str, counter: int, epoch: str = "e", rejected: tuple[Rejected, ...] = ()) -> Snapshot:
    return Snapshot(Revision(epoch, counter), tuple(map(one, ids)), rejected)


def patch(counter: int, changed: str = "", removed: str = "", epoch: str = "e", leaving: str = "") -> Patch:
    several = (*map(one, changed), *(one(name, state="leaving") for name in leaving))
    return Patch(Revision(epoch, counter), several, tuple(removed))


class Scripted(RegistryBackend):
    """A registry whose watches and reads a test feeds."""

    def __init__(self, *, push: bool = True) -> None:
        self.push = push
        self.feeds: list[asyncio.Queue[Step]] = []
        self.opening: list[Step] = []
        self.found: Snapshot | Exception | None = Unavailable("nobody asked for this read")
        self.gate: asyncio.Event | None = None
        self.asked: list[Revision | None] = []
        self.closed = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(push=self.push)

    async def watch(self, service: ServiceKey) -> AsyncIterator[Snapshot | Patch]:
        feed: asyncio.Queue[Step] = asyncio.Queue()
        self.feeds.append(feed)
        if self.opening:
            feed.put_nowait(self.opening.pop(0))
        try:
            while True:
                step = await feed.get()
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed += 1

    async def lookup(self, service: ServiceKey, known: Revision | None = None) -> Snapshot | None:
        self.asked.append(known)
        found = self.found
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(found, Exception):
            raise found
        return None if found is None or (known is not None and known == found.revision) else found

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def announce(self, wanted: Wanted, changed: Collection[ServiceKey]) -> Mapping[ServiceKey, RegistryError]:
        return {}

    async def renew(self) -> Mapping[ServiceKey, frozenset[str]]:
        return {}

    async def services(self) -> Sequence[ServiceKey]:
        return ()


class Pace(msgspec.Struct):
    call_timeout: float = 5.0
    protection_hold: float = 10.0
    reconcile: float = 30.0
    full_read: float = 600.0
    poll: float = 2.0


class Glass:
    """A mirror of a scripted registry, with the clock in the test's hand."""

    def __init__(
        self, *, push: bool = True, backend: RegistryBackend | None = None, clock: ManualClock | None = None
    ) -> None:
        self.clock = clock or ManualClock()
        self.backend = Scripted(push=push)
        self.pace = Pace()
        self.events: list[Event] = []
        self.bus = Events(ThreadCourier())
        self.bus.emit = self.events.append  # type: ignore[method-assign]
        self.mirror = Mirror(SERVICE, backend or self.backend, self.pace, self.clock, self.bus)
        self.mailbox = Mailbox(self.mirror.source, lambda _: None, known=False)
        self.mirror.mailboxes.append(self.mailbox)

    async def __aenter__(self) -> Self:
        self.mirror.start()
        await self.calm()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mirror.stop()
        assert self.backend.closed == len(self.backend.feeds)

    async def calm(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def feed(self, *steps: Step) -> None:
        for step in steps:
            self.backend.feeds[-1].put_nowait(step)
        await self.calm()

    async def pass_by(self, seconds: float, step: float = 0.5) -> None:
        await self.calm()
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await self.calm()

    def ids(self) -> str:
        return "".join(sorted(item.instance_id for item in self.mirror.view()))

    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]

    def change(self) -> InstancesChange | None:
        return self.mailbox.take()


def on_glass(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*self: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(20), Glass() as glass:
                await test(*self, glass)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]  pytest would take `glass` for a fixture
    return run


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
