"""Views are immutable and lazy: who holds one keeps what it shows, and who does not pays nothing."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters import Instance, InstancesChange, Revision, ServiceKey, ServiceView
from sofa_registry_adapters.model.views import Delta, Source

SERVICE = ServiceKey("a")


def one(name: str, weight: int = 100, **fields: object) -> Instance:
    return Instance(host="h", port=1, instance_id=name, weight=weight, **fields)  # type: ignore[arg-type]


def names(view: ServiceView) -> list[str]:
    return [item.instance_id for item in view]


class Copies:
    """A source that counts how often its instances are copied out."""

    def __init__(self, *ids: str) -> None:
        self.count = 0
        outer = self

        class Counting(dict[str, Instance]):
            def values(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
                outer.count += 1
                return super().values()

        self.source = Source(SERVICE)
        self.source.instances = Counting({name: one(name) for name in ids})

    def change(self, *ids: str) -> None:
        with self.source.locked():
            self.source.retire()
            for name in ids:
                self.source.instances[name] = one(name)
            self.source.revision = Revision("e", self.source.revision.counter + 1)


class TestLaziness:
    def test_a_view_that_nobody_reads_is_never_copied(self) -> None:
        copies = Copies("a")
        for number in range(100):
            assert copies.source.view().revision.counter == number
            copies.change(str(number))
        assert copies.count == 0

    def test_a_held_view_keeps_what_it_shows(self) -> None:
        copies = Copies("a")
        held = copies.source.view()
        copies.change("b")
        copies.change("c")
        assert names(held) == ["a"]
        assert names(copies.source.view()) == ["a", "b", "c"]
        assert names(held) == ["a"]
        assert held.revision != copies.source.view().revision

    def test_a_view_is_copied_once_at_most(self) -> None:
        copies = Copies("a")
        held = copies.source.view()
        assert [names(held) for _ in range(5)] == [["a"]] * 5
        copies.change("b")
        assert len(held) == 1
        assert copies.count == 1

    def test_everybody_shares_the_newest_view(self) -> None:
        copies = Copies("a")
        assert copies.source.view() is (copies.source.view())
        held = copies.source.view()
        copies.change("b")
        assert copies.source.view() is not held

    def test_a_read_view_does_not_keep_its_source(self) -> None:
        source = Source(SERVICE)
        gone = weakref.ref(source)
        view = source.view()
        assert not view
        del source
        gc.collect()
        assert gone() is None

    def test_the_lock_of_a_thread_that_is_no_more_does_not_stop_a_reader(self) -> None:
        # As in the child of a fork that happened in the middle of a change.
        source = Source(SERVICE)
        source._lock.acquire()
        reading = threading.Thread(target=source.view, daemon=True)
        reading.start()
        reading.join(5)
        assert not reading.is_alive()


class TestSequence:
    def test_it_is_an_immutable_sequence(self) -> None:
        view = ServiceView(SERVICE, [one("a"), one("b"), one("c")])
        assert view[0].instance_id == "a"
        assert [item.instance_id for item in view[1:]] == ["b", "c"]
        assert view[-1] in view
        assert view.index(one("b")) == 1
        assert len(view) == 3
        assert next(reversed(view)).instance_id == "c"
        assert not ServiceView(SERVICE)
        with pytest.raises(TypeError):
            view[0] = one("x")  # type: ignore[index]

    def test_what_is_available(self) -> None:
        view = ServiceView(SERVICE, [one("a"), one("b", 0), one("c", enabled=False), one("d", 1)])
        assert [item.instance_id for item in view.available] == ["a", "d"]
        assert view.available is view.available

    def test_views_compare_by_what_they_show(self) -> None:
        view = ServiceView(SERVICE, [one("a"), one("b")])
        assert view == ServiceView(SERVICE, [one("b"), one("a")], stale=True)
        assert hash(view) == hash(ServiceView(SERVICE, [one("b"), one("a")]))
        assert view != ServiceView(ServiceKey("b"), [one("a"), one("b")])
        assert view != ServiceView(SERVICE, [one("a"), one("b", 5)])
        assert view != [one("a"), one("b")]

    def test_the_age_counts_while_stale_only(self) -> None:
        assert ServiceView(SERVICE, stale=True, confirmed=3.0, now=lambda: 10.0).age == 7.0
        assert ServiceView(SERVICE, stale=True, confirmed=30.0, now=lambda: 10.0).age == 0.0
        assert ServiceView(SERVICE, stale=False, confirmed=3.0, now=lambda: 10.0).age == 0.0
        assert ServiceView(SERVICE, stale=True).age == 0.0

    def test_it_shows_what_matters(self) -> None:
        assert (
            repr(ServiceView(SERVICE, map(one, "abcd"), stale=True)) == "<ServiceView a 4 instances [a, b, c, …] stale>"
        )
        assert "protected" in repr(ServiceView(SERVICE, protected=True))


states = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), max_size=4)


def materialised(state: dict[str, int]) -> dict[str, Instance]:
    return {name: one(name, weight) for name, weight in state.items()}


def step(before: dict[str, Instance], after: dict[str, Instance]) -> Delta:
    delta = Delta()
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            delta.add(name, before.get(name), after.get(name))
    return delta


def replay(replica: dict[str, Instance], change: InstancesChange) -> None:
    for item in change.removed:
        assert replica.pop(item.instance_id) == item
    for item in change.added:
        assert item.instance_id not in replica
        replica[item.instance_id] = item
    for item in change.updated:
        assert replica[item.instance_id] != item
        replica[item.instance_id] = item


class TestDelta:
    @given(st.lists(states, min_size=1, max_size=8), st.sets(st.integers(0, 8)))
    def test_folded_steps_lead_where_the_steps_lead(self, history: list[dict[str, int]], reads: set[int]) -> None:
        """A listener that misses any of the steps still has a replica that equals the view."""
        replica: dict[str, Instance] = {}
        delta = Delta()
        before: dict[str, Instance] = {}
        for number, state in enumerate(history):
            after = materialised(state)
            delta.fold(step(before, after))
            before = after
            if number in reads or number == len(history) - 1:
                moved = before != replica
                assert bool(delta) == moved
                replay(replica, delta.change(ServiceView(SERVICE, after.values())))
                assert replica == after
                delta = Delta()

    @given(states, states)
    def test_there_and_back_is_nothing(self, one_state: dict[str, int], other: dict[str, int]) -> None:
        here, there = materialised(one_state), materialised(other)
        delta = step(here, there)
        delta.fold(step(there, here))
        assert not delta
        change = delta.change(ServiceView(SERVICE, here.values()))
        assert (change.added, change.removed, change.updated) == ((), (), ())

    def test_a_first_change_has_all_as_added(self) -> None:
        change = Delta([one("a"), one("b")]).change(ServiceView(SERVICE, [one("a"), one("b")], stale=True))
        assert change.added == (one("a"), one("b"))
        assert change.service == SERVICE
        assert change.stale
        assert not Delta()

    def test_a_change_is_a_value(self) -> None:
        change = Delta([one("a")]).change(ServiceView(SERVICE, [one("a")]))
        with pytest.raises(AttributeError):
            change.added = ()  # type: ignore[misc]
        assert change == msgspec.structs.replace(change)


@contextlib.contextmanager
def running(*works: Callable[[], None]) -> Iterator[list[BaseException]]:
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  the test tells
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    yield errors
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_threads_read_while_one_writes() -> None:
    """Each view shows one moment: as many instances as its revision says, all of that revision."""
    source = Source(SERVICE)
    stop = threading.Event()
    seen = [0, 0, 0]

    def read(reader: int) -> None:
        latest, kept = 0, []
        while not stop.is_set() or not seen[reader]:
            view = source.view()
            assert view.revision.counter >= latest
            latest = view.revision.counter
            kept.append(view)
            if len(kept) > 20:
                for held in kept:
                    assert len(held) == held.revision.counter % 7
                    assert {item.weight for item in held} <= {held.revision.counter}
                kept.clear()
                seen[reader] += 1

    with running(*(lambda reader=reader: read(reader) for reader in range(3))) as errors:  # type: ignore[misc]
        for counter in range(1, 3000):
            with source.locked():
                source.retire()
                source.instances = {str(name): one(str(name), counter) for name in range(counter % 7)}
                source.revision = Revision("e", counter)
        stop.set()
    assert not errors
    assert all(seen)
