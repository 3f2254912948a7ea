from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters.backends.nacos import listing as module
from sofa_registry_adapters.backends.nacos.instances import host_of
from sofa_registry_adapters.backends.nacos.listing import Listing, Step, newest
from sofa_registry_adapters.model.instance import Instance

Wanted = list[tuple[int, int, int]]


def raw(number: int, weight: int = 100, started: int = 1, owner: str = "a") -> msgspec.Raw:
    instance = Instance.of(f"10.0.0.{number}:1", weight=weight)
    return msgspec.Raw(msgspec.json.encode(host_of(msgspec.structs.replace(instance, started=started, owner=owner))))


def take(listing: Listing, *hosts: msgspec.Raw) -> Step:
    return asyncio.run(listing.take(hosts))


def shown(listing: Listing) -> dict[str, int]:
    return {one.instance_id: one.weight for one in listing.instances}


def test_a_first_list_is_all_new() -> None:
    listing = Listing()
    step = take(listing, raw(1), raw(2))
    assert [one.instance_id for one in step.changed] == ["10.0.0.1:1", "10.0.0.2:1"]
    assert not step.removed
    assert shown(listing) == {"10.0.0.1:1": 100, "10.0.0.2:1": 100}


def test_the_same_list_changes_nothing() -> None:
    listing = Listing()
    take(listing, raw(1), raw(2))
    assert not take(listing, raw(2), raw(1))


def test_a_change_is_just_that() -> None:
    listing = Listing()
    take(listing, raw(1), raw(2), raw(3))
    step = take(listing, raw(1), raw(2, weight=7), raw(4))
    assert {one.instance_id: one.weight for one in step.changed} == {"10.0.0.2:1": 7, "10.0.0.4:1": 100}
    assert step.removed == ["10.0.0.3:1"]


def test_only_what_is_new_is_decoded(monkeypatch: object) -> None:
    decoded: list[object] = []
    listing, really = Listing(), module.listed
    take(listing, *(raw(number) for number in range(200)))
    monkeypatch.setattr(module, "listed", lambda host: decoded.append(host) or really(host))  # type: ignore[attr-defined]
    take(listing, *(raw(number, weight=7 if number == 5 else 100) for number in range(200)))
    assert len(decoded) == 1


def test_of_two_publishers_of_an_id_the_later_one_counts_and_the_other_comes_back() -> None:
    listing = Listing()
    take(listing, raw(1, weight=1, started=1, owner="older"))
    both = raw(1, weight=1, started=1, owner="older"), raw(1, weight=2, started=2, owner="newer")
    assert [one.owner for one in take(listing, *both).changed] == ["newer"]
    assert not take(listing, *reversed(both))
    step = take(listing, both[0])
    assert ([one.owner for one in step.changed], step.removed) == (["older"], [])


def test_what_cannot_be_read_keeps_its_last_good_value_and_costs_nobody_else() -> None:
    listing = Listing()
    take(listing, raw(1, weight=5), raw(2))
    bad = msgspec.Raw(b'{"ip":"10.0.0.1","port":1,"metadata":{"sofa.started":"soon"}}')
    step = take(listing, bad, raw(2), raw(3), msgspec.Raw(b'{"ip":1}'))
    assert [one.instance_id for one in step.changed] == ["10.0.0.3:1"]
    assert [one.record for one in step.rejected] == ["10.0.0.1:1", '{"ip":1}']
    assert shown(listing) == {"10.0.0.1:1": 5, "10.0.0.2:1": 100, "10.0.0.3:1": 100}
    step = take(listing, raw(1, weight=6), raw(2), raw(3))
    assert [(one.instance_id, one.weight) for one in step.changed] == [("10.0.0.1:1", 6)]
    assert take(listing, raw(2), raw(3)).removed == ["10.0.0.1:1"]


ENTRIES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), max_size=12)


@given(st.lists(ENTRIES, max_size=8))
def test_the_steps_add_up_to_the_newest_list(lists: list[Wanted]) -> None:
    listing = Listing()
    replica: dict[str, Instance] = {}
    for entries in lists:
        hosts = [raw(number, weight, started) for number, weight, started in entries]
        step = take(listing, *hosts)
        assert not {one.instance_id for one in step.changed} & set(step.removed)
        replica = {name: one for name, one in replica.items() if name not in step.removed}
        replica |= {one.instance_id: one for one in step.changed}
        assert {one.instance_id: one for one in listing.instances} == replica
        best = newest(hosts)
        assert replica.keys() == best.keys()
        assert {name: one.started for name, one in replica.items()} == {
            name: one.instance.started for name, one in best.items() if one.instance is not None
        }
