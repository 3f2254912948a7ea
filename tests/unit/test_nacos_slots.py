from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sofa_registry_adapters.backends.nacos import slots as module
from sofa_registry_adapters.backends.nacos.instances import Listed, host_of, listed
from sofa_registry_adapters.backends.nacos.rivals import PACE, Rivals
from sofa_registry_adapters.backends.nacos.slots import Prepared, Slot
from sofa_registry_adapters.errors import Conflict, ValueTooLarge
from sofa_registry_adapters.model.instance import Instance, Metadata
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.clock import ManualClock

ECHO = ServiceKey("echo")
HERE: Any = object()
ELSEWHERE: Any = object()


def instance(number: int, **fields: Any) -> Instance:
    return msgspec.structs.replace(Instance.of(f"10.0.0.{number}:1"), **{"started": 1, "owner": "a", **fields})


def prepare(slot: Slot, *wanted: Instance, withheld: tuple[str, ...] = ()) -> Prepared:
    return asyncio.run(slot.prepare(wanted, withheld))


def registered(slot: Slot, *wanted: Instance, on: Any = HERE) -> None:
    slot.on, slot.entries = on, prepare(slot, *wanted).entries


def test_a_slot_is_all_or_nothing_of_one_connection() -> None:
    slot, one, two = Slot(ECHO, ManualClock()), instance(1), instance(2)
    assert slot.holds(prepare(slot), HERE)
    registered(slot, one, two)
    assert slot.holds(prepare(slot, one, two), HERE)
    assert not slot.holds(prepare(slot, one, two), ELSEWHERE)
    assert not slot.holds(prepare(slot, one), HERE)
    assert not slot.holds(prepare(slot), HERE)
    assert slot.holds(prepare(slot), ELSEWHERE)


def test_an_equal_instance_needs_no_request() -> None:
    slot = Slot(ECHO, ManualClock())
    registered(slot, instance(1))
    assert slot.holds(prepare(slot, instance(1)), HERE)
    assert not slot.holds(prepare(slot, instance(1, weight=7)), HERE)


def test_what_stands_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slot, many = Slot(ECHO, ManualClock()), [instance(number) for number in range(100)]
    registered(slot, *many)
    encoded: list[Instance] = []
    monkeypatch.setattr(module, "host_of", lambda one, *more: encoded.append(one) or host_of(one, *more))
    prepare(slot, *many[1:], instance(0, weight=7))
    assert len(encoded) == 1


def test_a_change_is_later_than_what_another_connection_may_have_left() -> None:
    slot = Slot(ECHO, ManualClock())
    registered(slot, instance(1))
    before, after = slot.any(), prepare(slot, instance(1, weight=7)).hosts[0]
    best = max((listed(after), listed(before)), key=lambda entry: entry.rank).instance
    assert best is not None
    assert best.weight == 7


def test_what_is_too_large_is_refused_alone_and_what_stands_of_it_stays() -> None:
    slot, large = Slot(ECHO, ManualClock()), Metadata({"k": "x" * 2000})
    registered(slot, instance(1), instance(2))
    prepared = prepare(slot, instance(1, metadata=large), instance(2, weight=7), instance(3, metadata=large))
    assert [(type(one), one.instance_ids) for one in prepared.refused] == [
        (ValueTooLarge, {"10.0.0.1:1"}),
        (ValueTooLarge, {"10.0.0.3:1"}),
    ]
    assert [listed(one).instance for one in prepared.hosts] == [instance(1), instance(2, weight=7)]


def test_more_than_a_request_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slot = Slot(ECHO, ManualClock())
    monkeypatch.setattr(module, "MAX_BYTES", 500)
    prepared = prepare(slot, *(instance(number) for number in range(5)))
    assert len(prepared.entries) + len(prepared.refused) == 5
    assert prepared.entries
    assert all(isinstance(one, ValueTooLarge) and len(one.instance_ids) == 1 for one in prepared.refused)


def test_what_is_withheld_is_not_sent() -> None:
    slot = Slot(ECHO, ManualClock())
    assert prepare(slot, instance(1), instance(2), withheld=("10.0.0.1:1",)).entries.keys() == {"10.0.0.2:1"}


def rival(**fields: Any) -> dict[str, Listed]:
    return {"10.0.0.1:1": Listed("10.0.0.1:1", instance(1, **fields))}


@pytest.mark.parametrize(
    ("theirs", "conflict"),
    (
        ({"owner": "b", "started": 2}, True),
        ({"owner": "b", "started": 1}, True),
        ({"owner": "", "started": 1}, False),
        ({"owner": "b", "started": 0}, False),
        ({"owner": "a", "started": 2}, False),
        ({"owner": "b", "started": 2, "state": "leaving"}, False),
    ),
)
def test_the_newer_publisher_holds_the_id(theirs: dict[str, Any], conflict: bool) -> None:
    rivals = Rivals(ManualClock(), 0.5)
    found = rivals.conflicts(ECHO, [instance(1), instance(2)], rival(**theirs))
    assert list(found) == (["10.0.0.1:1"] if conflict else [])
    assert all(isinstance(one, Conflict) and one.instance_ids == {name} for name, one in found.items())
    assert rivals.known(ECHO) == conflict
    assert not rivals.conflicts(ECHO, [instance(1)], {})
    assert not rivals.known(ECHO)


def test_looks_begin_when_a_write_is_visible_and_take_turns() -> None:
    clock = ManualClock()
    rivals = Rivals(clock, 0.5)
    assert rivals.next() is None
    services = [ServiceKey(name) for name in "abc"]
    for service in services:
        rivals.announced(service)
    assert rivals.next() is None
    clock.advance(0.6)
    seen = []
    for _ in range(6):
        service = rivals.next()
        assert service is not None
        rivals.looked(service, 1)
        seen.append(service)
        clock.advance(1.0)
    assert seen == services * 2
    rivals.withdrawn(services)
    assert rivals.next() is None


def test_large_lists_are_looked_at_less_often() -> None:
    clock = ManualClock()
    rivals = Rivals(clock, 0.0)
    rivals.announced(ECHO)
    rivals.looked(ECHO, 10_000)
    clock.advance(10_000 / PACE - 1)
    assert rivals.next() is None
    clock.advance(2)
    assert rivals.next() == ECHO
