"""The protection rule, row by row: a fault is never an empty list, and scale-to-zero works all the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters import Instance
from sofa_registry_adapters.engine.protection import WINDOW, Protection


def fleet(*ids: str, disabled: str = "") -> dict[str, Instance]:
    return {name: Instance(host="h", port=1, instance_id=name, enabled=name not in disabled) for name in ids}


def lose(protection: Protection, visible: dict[str, Instance], gone: str, now: float) -> tuple[list[str], list[str]]:
    """As the mirror does: what passes leaves the view, what is held stays in it."""
    passed, held = protection.sort(list(gone), visible, now)
    for name in passed:
        visible.pop(name, None)
    return passed, held


@pytest.mark.parametrize(
    ("there", "disabled", "gone", "passes", "held"),
    (
        ("a", "", "a", "", "a"),  # the last one
        ("ab", "", "a", "a", ""),  # one of two leaves one: half of two is no alarm
        ("ab", "", "ab", "", "ab"),  # to empty
        ("abc", "", "a", "a", ""),  # less than half
        ("abc", "", "ab", "", "ab"),  # half and more of three
        ("abc", "", "abc", "", "abc"),
        ("abcd", "", "a", "a", ""),
        ("abcd", "", "ab", "", "ab"),  # just half of four
        ("abcde", "", "ab", "ab", ""),
        ("abcde", "", "abc", "", "abc"),
        ("abcdefghij", "", "abcd", "abcd", ""),
        ("abcdefghij", "", "abcde", "", "abcde"),
        ("ab", "b", "b", "b", ""),  # a disabled one passes
        ("ab", "b", "a", "", "a"),  # the last that is enabled
        ("ab", "ab", "ab", "ab", ""),  # nobody used them
        ("abcd", "cd", "cd", "cd", ""),
        ("abcdef", "def", "adef", "adef", ""),  # one of three that count
        ("abcdef", "def", "abdef", "def", "ab"),  # two of three that count
        ("abc", "", "x", "", ""),  # unknown ones are nothing
        ("abc", "", "", "", ""),
    ),
)
def test_the_rule(there: str, disabled: str, gone: str, passes: str, held: str) -> None:
    protection = Protection(10.0)
    passed, kept = protection.sort(list(gone), fleet(*there, disabled=disabled), 100.0)
    assert (sorted(passed), sorted(kept)) == (list(passes), list(held))
    assert sorted(protection.held) == list(held)


def test_a_store_that_begins_anew_may_not_know_everybody_yet() -> None:
    protection = Protection(10.0)
    assert protection.sort(["a"], fleet(*"abcdef"), 100.0, anew=True) == ([], ["a"])
    assert protection.sort(["b"], fleet(*"abcdef"), 105.0) == (["b"], [])
    assert protection.due(106.0) == 4.0
    assert Protection(0.0).sort(["a"], fleet(*"abcdef"), 100.0, anew=True) == (["a"], [])


def test_off_means_off() -> None:
    protection = Protection(0.0)
    assert protection.sort(["a", "b"], fleet("a", "b"), 1.0) == (["a", "b"], [])
    assert protection.due(1.0) is None


def test_losses_within_a_second_count_together() -> None:
    protection, visible = Protection(10.0), fleet(*"abcdef")
    assert lose(protection, visible, "a", 100.0) == (["a"], [])
    assert lose(protection, visible, "b", 100.3) == (["b"], [])
    assert lose(protection, visible, "c", 100.6) == ([], ["c"])


def test_losses_that_are_a_second_apart_do_not() -> None:
    protection, visible = Protection(10.0), fleet(*"abcdef")
    for number, name in enumerate("abcd"):
        assert lose(protection, visible, name, 100.0 + number * WINDOW) == ([name], [])
    assert lose(protection, visible, "e", 104.0) == (["e"], [])
    assert lose(protection, visible, "f", 105.0) == ([], ["f"])


def test_a_held_one_is_held_once() -> None:
    protection, visible = Protection(10.0), fleet(*"abc")
    assert lose(protection, visible, "abc", 100.0) == ([], ["a", "b", "c"])
    assert lose(protection, visible, "abc", 101.0) == ([], [])
    assert protection.due(101.0) == 9.0


def test_the_last_beside_held_ones_is_the_last() -> None:
    protection, visible = Protection(10.0), fleet(*"abc")
    assert lose(protection, visible, "ab", 100.0) == ([], ["a", "b"])
    assert lose(protection, visible, "c", 105.0) == ([], ["c"])


def test_what_returns_is_held_no_more_and_may_be_lost_again() -> None:
    protection, visible = Protection(10.0), fleet(*"ab")
    lose(protection, visible, "ab", 100.0)
    protection.returned("a")
    protection.returned("a")
    assert sorted(protection.held) == ["b"]
    protection.returned("b")
    assert protection.due(101.0) is None
    assert lose(protection, visible, "ab", 120.0) == ([], ["a", "b"])
    assert protection.due(120.0) == 10.0


def test_a_hold_is_due_after_its_time() -> None:
    protection = Protection(10.0)
    assert protection.due(100.0) is None
    lose(protection, fleet("a"), "a", 100.0)
    assert [protection.due(now) for now in (100.0, 104.0, 110.0, 200.0)] == [10.0, 6.0, 0.0, 0.0]


def test_a_later_loss_is_held_for_its_own_time() -> None:
    """Half is lost, and just before that is confirmed the store is wiped: the rest has its ten seconds, too."""
    protection, visible = Protection(10.0), fleet(*"abcd")
    lose(protection, visible, "ab", 100.0)
    lose(protection, visible, "cd", 109.9)
    due = protection.due(110.0)
    assert due is None or due > 9 or set(protection.held) == {"c", "d"}


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdef"), max_size=6), st.floats(0, 3)), max_size=12))
def test_whatever_is_lost_somebody_stays(losses: list[tuple[set[str], float]]) -> None:
    """Without a mark or a confirmation a service that had instances never becomes empty."""
    protection, visible, now = Protection(10.0), fleet(*"abcdef"), 0.0
    for gone, pause in losses:
        now += pause
        before = len(visible)
        passed, held = protection.sort(sorted(gone & visible.keys()), visible, now)
        for name in passed:
            del visible[name]
        assert visible
        assert set(held) <= set(protection.held)
        assert not set(passed) & set(protection.held)
        assert len(passed) < before


class Counting(dict[str, Instance]):
    """Counts the instances that were looked at."""

    looked = 0

    def items(self) -> Any:
        for pair in super().items():
            self.looked += 1
            yield pair


def test_a_loss_in_a_large_service_looks_at_few() -> None:
    protection, visible = (
        Protection(10.0),
        Counting(fleet(*map(str, range(10_000)))),
    )
    for number in range(100):
        assert lose(protection, visible, "", 100.0) == ([], [])
        passed, held = protection.sort([str(number)], visible, 100.0 + number / 100)
        assert (passed, held) == ([str(number)], [])
        del visible[str(number)]
    assert visible.looked < 100 * 110


def test_few_that_count_are_found_among_many_that_do_not() -> None:
    many = {str(number): Instance(host="h", port=1, instance_id=str(number), enabled=False) for number in range(5_000)}
    for there, gone, held in (
        ("abc", "a", ""),
        ("abc", "ab", "ab"),
        ("a", "a", "a"),
        ("abcde", "ab", ""),
        ("abcde", "abc", "abc"),
    ):
        protection = Protection(10.0)
        assert sorted(protection.sort(list(gone), {**many, **fleet(*there)}, 1.0)[1]) == sorted(held)
