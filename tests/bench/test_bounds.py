"""No regression: ratios of alternating rounds, against bounds that are looser than the goals and than what is measured today.

Ratios of CPU time where both sides work in this process alone: other work on the machine does not count in them. The figures and
the goals are in docs/reference/performance.md; a bound here is some twice the ratio measured when it was written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from measuring.content import address, instance, metadata
from measuring.goals import p03_one_change as one_change
from measuring.goals import p04_publish as publishing
from measuring.goals import p08_memory as memory
from measuring.goals import p10_import as importing
from measuring.goals.p02_lookup import _sides as lookups
from measuring.places import Place
from measuring.raw.client import raw_client
from measuring.rounds import alternate, batched, ratio, repeated

from sofa_registry_adapters.testing.services import Service

ROUNDS = 5


@pytest.fixture
def place(redis_service: Service, tmp_path: Path) -> Place:
    return Place("redis", redis_service.url, tmp_path, redis_service)


def test_a_lookup_of_what_was_read_is_a_few_look_ups_in_a_dictionary(tmp_path: Path) -> None:
    times = {}
    for size in (10, 5_000):
        with Place("memory", f"memory://bounds-{size}", tmp_path).registry() as registry:
            registry.publish("echo", [address(number) for number in range(size)])
            with registry.subscribe("echo", lambda change: change.instances[0]):
                found = alternate(lookups(registry.lookup, {"echo": object()}.get), ROUNDS)
                times[size] = ratio(found, "ours", "raw", cpu=True)
    assert times[10] < 30
    assert times[5_000] < 30


def test_a_change_costs_the_same_in_a_large_service() -> None:
    sides: dict[str, Any] = {}
    for size in (10, 10_000):
        changing = one_change.Changing(size)
        sides[f"update {size}"] = batched(changing.update, 300)
        sides[f"removal {size}"] = batched(changing.leave_and_return, 100)
    found = alternate(sides, ROUNDS)
    assert ratio(found, "update 10000", "update 10", cpu=True) < 2.5
    assert ratio(found, "removal 10000", "removal 10", cpu=True) < 2.5


def test_a_change_and_the_view_cost_a_part_of_a_diff() -> None:
    ours, diff = one_change.Changing(10_000), one_change.Diffing(10_000)
    sides = {"ours": repeated(ours.update_and_read, 40), "raw": repeated(diff.step, 5)}
    assert ratio(alternate(sides, ROUNDS), "ours", "raw", cpu=True) < 0.25


def test_publishing_on_redis_costs_a_few_raw_pipelines(place: Place) -> None:
    numbers = iter(range(1_000_000))
    with raw_client(place) as raw:

        def publish_raw() -> list[float]:
            raw.clear()
            ready = iter([raw.prepared(next(numbers)) for _ in range(50)])
            return repeated(lambda: raw.publish(next(ready)), 50)()

        sides = {"ours": lambda: publishing.publish_ours(place, numbers, 50), "raw": publish_raw}
        found = alternate(sides, ROUNDS)
        raw.clear()
    assert ratio(found, "ours", "raw", cpu=True) < 30


def test_a_snapshot_on_redis_costs_a_few_raw_ones(place: Place) -> None:
    with place.registry() as provider, place.registry() as registry, raw_client(place) as raw:
        provider.publish("echo-bounds", [address(number) for number in range(1_000)], metadata=metadata(1))
        sides = {
            "ours": repeated(lambda: registry.lookup("echo-bounds"), 5),
            "raw": repeated(lambda: raw.snapshot("echo-bounds"), 5),
        }
        assert ratio(alternate(sides, ROUNDS), "ours", "raw", cpu=True) < 40


def test_the_memory_of_an_instance() -> None:
    pairs = memory._bytes(memory._tuples)
    assert memory._bytes(lambda: memory._decoded(memory._plain)) / pairs < 5
    assert memory._bytes(lambda: memory._decoded(memory._own_metadata)) / pairs < 8
    assert memory._bytes(lambda: memory._decoded(instance)) / pairs < 6


def test_the_import_costs_less_than_that_of_a_client_library() -> None:
    sides = {"ours": importing.imported(importing.OURS), "raw": importing.imported("import kazoo.client")}
    assert ratio(alternate(sides, ROUNDS), "ours", "raw") < 2.5
