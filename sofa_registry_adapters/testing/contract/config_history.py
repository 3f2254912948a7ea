"""Promises about the history of a value and the list of keys, in both faces."""

from __future__ import annotations

import os
import time

import pytest

from sofa_registry_adapters.errors import Conflict, InvalidArgument
from sofa_registry_adapters.model.config import ABSENT
from sofa_registry_adapters.testing.contract.centers import KEY, Centers
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.contract.kit import STEP
from sofa_registry_adapters.testing.faults import eventually

MANY = 30
LEAST = 20


class HistoryContract:
    """See the module."""

    def test_30_the_last_twenty(self, centers: Centers, face: FaceName) -> None:
        """The history has at least the last twenty values, the newest first, with time and author."""
        center, before = centers.open(face), time.time()
        revisions = [center.publish(KEY, str(number), content_type="text") for number in range(MANY)]
        found = center.history()
        assert len(found) == LEAST
        assert [item.content for item in found] == [str(number) for number in range(MANY - 1, MANY - LEAST - 1, -1)]
        assert [item.revision for item in found] == revisions[: MANY - LEAST - 1 : -1]
        assert found[0] == center.get()
        moments = [item.updated_at for item in found]
        assert moments == sorted(moments, reverse=True)
        assert before - 60 < moments[-1] < time.time() + 60
        assert all(item.author and str(os.getpid()) in item.author for item in found), found[0].author
        assert {item.content_type for item in found} == {"text"}
        assert center.history(limit=3) == found[:3]

    def test_31_of_a_removed_key(self, centers: Centers, face: FaceName) -> None:
        """A removed key keeps its history, and goes on with it when it comes back."""
        center = centers.open(face)
        center.publish(KEY, "one")
        center.publish(KEY, "two")
        center.remove()
        assert [item.content for item in center.history()] == ["two", "one"]
        center.publish(KEY, "three")
        center.remove()
        center.publish(KEY, "four")
        assert [item.content for item in center.history()] == ["four", "three", "two", "one"]

    def test_31_removals_take_no_place(self, centers: Centers) -> None:
        """The last twenty values are there, however often the key was removed between them."""
        center = centers.open()
        for number in range(LEAST + 5):
            center.publish(KEY, str(number))
            center.remove()
        assert [item.content for item in center.history()] == [str(number) for number in range(LEAST + 4, 4, -1)]

    def test_32_rollback(self, centers: Centers, face: FaceName) -> None:
        """A value of the history is published again, as a new value with its old content and type."""
        center, recorder = centers.open(face), centers.open(face).recorder()
        revisions = [
            center.publish(KEY, content, content_type=kind) for content, kind in (("a: 1", "yaml"), ("{}", "json"))
        ]
        center.publish(KEY, "c", content_type="text")
        fresh = center.rollback(KEY, revisions[0])
        item = center.get()
        assert item is not None
        assert (item.content, item.content_type, item.revision) == ("a: 1", "yaml", fresh)
        assert fresh not in revisions
        eventually(lambda: recorder.content == "a: 1", STEP, "listeners are told")
        assert [one.content for one in center.history()] == ["a: 1", "c", "{}", "a: 1"]
        with pytest.raises(Conflict):
            center.rollback(KEY, revisions[1], expected=revisions[0])
        with pytest.raises(InvalidArgument):
            center.rollback(KEY, fresh[:-4] + "0000")
        assert center.get() == item

    def test_33_rollback_by_one(self, centers: Centers, face: FaceName) -> None:
        """Without a revision it is the value before the present one, or the last one of a removed key."""
        center = centers.open(face)
        center.publish(KEY, "one")
        with pytest.raises(InvalidArgument):
            center.rollback()
        center.publish(KEY, "two")
        center.rollback()
        assert center.content() == "one"
        center.remove()
        center.rollback(expected=ABSENT)
        assert center.content() == "one"

    def test_40_keys(self, centers: Centers, face: FaceName) -> None:
        """The keys of a group that have a value, sorted; what was removed is none of them."""
        centers.needs_keys()
        center = centers.open(face)
        assert list(center.keys()) == []
        for key in ("b", "a", "c/d", "日本", "removed"):
            center.publish(key, "x")
            center.publish(key, "y", group="other")
        center.remove("removed")
        center.publish("only there", "z", group="third")
        assert list(center.keys()) == sorted(("a", "b", "c/d", "日本"))
        assert list(center.keys(group="other")) == sorted(("a", "b", "c/d", "removed", "日本"))
        assert list(center.keys(group="third")) == ["only there"]
        assert list(center.keys(group="fourth")) == []
