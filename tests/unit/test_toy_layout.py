"""What the layout SPI must carry: a shared bucket, two hops, a record of several services, a permanent one beside it.

The layout is written as a stranger would write it, and driven by the real engine on real stores.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

from sofa_registry_adapters import Instance, InstancesChange, Registry, ServiceKey
from sofa_registry_adapters.backends.memory import space
from sofa_registry_adapters.errors import CorruptRecord, InvalidURL, PluginError, Unsupported
from sofa_registry_adapters.events import RecordRejected
from sofa_registry_adapters.model.instance import Metadata
from sofa_registry_adapters.model.names import decode_segment, encode_segment
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.layout import Seen, ServiceLayout
from sofa_registry_adapters.spi.registry import Wanted
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.services import Service


class ToyLayout(ServiceLayout):
    """Applications publish once for all their services.

    ::

        mapping/<service>/<application>   permanent: which applications have the service
        apps/<id>                         owned, in one bucket for all: address, application, and its services
        notes/<id>                        permanent, beside the owned one: what the instance says of itself
    """

    name = "toy"
    marks_leaving = True

    def bucket(self, service: ServiceKey) -> Bucket:
        return Bucket(("mapping", service.segment))

    def record(self, service: ServiceKey, instance: Instance) -> Record:
        return Record(("mapping", service.segment), encode_segment(instance.zone or "app"), b"", owned=False, keep=True)

    def records(self, wanted: Wanted) -> Iterable[Record]:
        services: dict[str, dict[str, Instance]] = {}
        for service, several in wanted.instances.items():
            for one in several:
                services.setdefault(one.instance_id, {})[str(service)] = one
                yield self.record(service, one)
        for name, mine in services.items():
            one = next(iter(mine.values()))
            up = sorted(service for service, item in mine.items() if item.state == "up")
            value = {"at": [one.host, one.port], "app": one.zone or "app", "up": up, "by": [one.started, one.owner]}
            value["all"] = sorted(mine)
            yield Record(("notes",), encode_segment(name), json.dumps(dict(one.metadata)).encode(), owned=False)
            yield Record(("apps",), encode_segment(name), json.dumps(value).encode())

    def sources(self, service: ServiceKey, seen: Seen) -> frozenset[Bucket]:
        home = self.bucket(service)
        mapped = any(key.bucket == home.path for key in seen)
        return frozenset((home, Bucket(("apps",)), Bucket(("notes",))) if mapped else (home,))

    def decode(self, service: ServiceKey, stored: Stored, seen: Seen) -> Instance | None:
        if stored.record.bucket != ("apps",):
            return None
        try:
            value = json.loads(stored.record.value)
            note = seen.get(RecordKey(("notes",), stored.record.name))
            if str(service) not in value["all"]:
                return None
            return Instance(
                host=value["at"][0], port=value["at"][1], instance_id=decode_segment(stored.record.name), zone=value["app"],
                started=value["by"][0], owner=value["by"][1], state="up" if str(service) in value["up"] else "leaving",
                metadata=Metadata(json.loads(note.record.value)) if note else Metadata(),
            )  # fmt: skip
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CorruptRecord(f"no application: {error}") from None


class Plugin:
    @hookimpl
    def sofa_registry_layouts(self) -> Mapping[str, type[ServiceLayout]]:
        return {"toy": ToyLayout}


Opener = Callable[..., Registry]


@pytest.fixture(params=["memory", "zookeeper"])
def root(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    service: Service = request.getfixturevalue("zookeeper_service")
    return f"{service.url}/toy-{uuid.uuid4().hex}"


@pytest.fixture
def opened(root: str) -> Iterator[Opener]:
    registries: list[Registry] = []

    def make(**options: Any) -> Registry:
        given = {"snapshot": "off", "protection_hold": 0, "leaving": 0.05, **options}
        registry = Registry(f"{root}?layout=toy", options=given, plugins=[Plugin()]).open()
        registries.append(registry)
        return registry

    yield make
    for registry in registries:
        registry.close()


def ids(registry: Registry, service: str) -> list[str]:
    return sorted(one.instance_id for one in registry.lookup(service))


def test_it_is_short() -> None:
    with open(__file__) as file:  # noqa: PTH123  the shortest way
        text = file.read()
    body = text[text.index("class ToyLayout") : text.index("class Plugin")]
    assert len(body.strip().splitlines()) <= 60


def test_one_record_speaks_for_several_services(opened: Opener) -> None:
    provider, consumer = opened(), opened()
    provider.publish("a", "h:1", instance_id="x", zone="shop", metadata={"colour": "red"})
    provider.publish("b:1.0", "h:1", instance_id="x", zone="shop", metadata={"colour": "red"})
    for service in ("a", "b:1.0"):
        (one,) = consumer.lookup(service)
        assert (one.address, one.zone, one.metadata) == ("h:1", "shop", {"colour": "red"})
    assert ids(consumer, "c") == []


def test_one_bucket_is_shared_by_several_services(opened: Opener) -> None:
    provider, consumer = opened(), opened()
    provider.publish("a", ["h:1", "h:2"])
    provider.publish("b", "h:3")
    provider.publish("ab", "h:4")
    assert (ids(consumer, "a"), ids(consumer, "b"), ids(consumer, "ab")) == (["h:1", "h:2"], ["h:3"], ["h:4"])


def test_a_subscriber_follows_both_hops(opened: Opener) -> None:
    consumer, provider = opened(), opened()
    seen: list[list[str]] = []
    changes: list[InstancesChange] = []

    def listen(change: InstancesChange) -> None:
        changes.append(change)
        seen.append(sorted(one.instance_id for one in change.instances))

    consumer.subscribe("a", listen)
    assert seen == [[]]
    registration = provider.publish("a", "h:1", zone="shop")
    eventually(lambda: seen[-1] == ["h:1"])
    other = provider.publish("a", "h:2", zone="warehouse")
    eventually(lambda: seen[-1] == ["h:1", "h:2"])
    provider.publish("b", "h:3")
    registration.update(metadata={"colour": "blue"})
    eventually(lambda: {"colour": "blue"} in [one.metadata for one in changes[-1].instances])
    registration.unpublish()
    eventually(lambda: seen[-1] == ["h:2"])
    other.unpublish()
    eventually(lambda: seen[-1] == [])
    assert ids(consumer, "b") == ["h:3"]


def test_withdrawing_one_service_leaves_the_others_of_the_record(opened: Opener) -> None:
    provider, consumer = opened(), opened()
    first = provider.publish("a", "h:1", instance_id="x")
    second = provider.publish("b", "h:1", instance_id="x")
    with consumer.watch("b") as watch:
        assert watch.next(5)
        first.unpublish()
        assert ids(consumer, "a") == []
        assert ids(consumer, "b") == ["x"]
        assert second.state == "live"
        second.unpublish()
        eventually(lambda: ids(consumer, "b") == [])


def test_a_withdrawal_is_told_before_it_is_done(opened: Opener) -> None:
    provider, consumer = opened(), opened(protection_hold=60)
    registration = provider.publish("a", "h:1")
    with consumer.watch("a") as watch:
        assert watch.next(5)
        registration.unpublish()
        # A last instance that says good-bye needs no protection.
        eventually(lambda: not consumer.lookup("a"), 2)
        assert not consumer.lookup("a").protected


def test_a_permanent_record_that_others_rely_on_stays(opened: Opener) -> None:
    one, other, consumer = opened(), opened(), opened()
    registration = one.publish("a", "h:1")
    other.publish("a", "h:2")
    with consumer.watch("a"):
        registration.unpublish()
        eventually(lambda: ids(consumer, "a") == ["h:2"])
        one.close()
        assert ids(consumer, "a") == ["h:2"]
        assert ids(opened(), "a") == ["h:2"]


def test_what_is_owned_goes_with_its_owner_and_what_is_permanent_stays() -> None:
    name = uuid.uuid4().hex
    registry = Registry(f"memory://{name}?layout=toy&leaving=20ms", plugins=[Plugin()])
    registry.publish("a", "h:1", instance_id="x")
    space(name).expire_all()
    left = {entry.record.bucket[0] for entry in space(name)._places.read(Bucket((), deep=True))}
    assert left == {"mapping", "notes"}
    eventually(lambda: space(name).peek(RecordKey(("apps",), "x")) is not None)
    registry.close()


def test_the_newer_publisher_takes_over_whatever_services_the_record_has(opened: Opener) -> None:
    old, new, consumer = opened(), opened(), opened()
    first = old.publish("a", Instance(host="old", port=1, instance_id="x", started=1))
    old.publish("b", Instance(host="old", port=1, instance_id="x", started=1))
    new.publish("z", "h:9")
    new.publish("b", "new:2", instance_id="x", required=False)
    new.publish("a", "new:2", instance_id="x")
    eventually(lambda: [one.host for one in consumer.lookup("b")] == ["new"])
    assert [one.host for one in consumer.lookup("a")] == ["new"]
    eventually(lambda: first.state == "conflict", 10)
    new.close()
    eventually(lambda: first.state == "live", 10)
    assert [one.host for one in consumer.lookup("a")] == ["old"]


def test_a_record_deleted_behind_our_back_is_written_again() -> None:
    name = uuid.uuid4().hex
    with Registry(f"memory://{name}?layout=toy&leaving=20ms", plugins=[Plugin()]) as registry:
        several = [registry.publish(service, "h:1", instance_id="x") for service in "ab"]
        space(name).delete_behind(RecordKey(("apps",), "x"))
        eventually(lambda: ids(registry, "a") == ids(registry, "b") == ["x"])
        eventually(lambda: {one.state for one in several} == {"live"})


def test_a_corrupt_record_in_the_shared_bucket_costs_itself_only() -> None:
    name = uuid.uuid4().hex
    rejected: list[RecordRejected] = []
    with Registry(f"memory://{name}?layout=toy&leaving=20ms", plugins=[Plugin()]) as registry:
        registry.events.on(RecordRejected, rejected.append)
        registry.publish("a", "h:1")
        with registry.watch("a") as watch:
            assert watch.next(5)
            space(name).write_behind(Record(("apps",), "bad", b"{"))
            eventually(lambda: [event.record for event in rejected] == ["bad"])
            assert ids(registry, "a") == ["h:1"]


def test_a_layout_that_cannot_list_says_so(opened: Opener) -> None:
    with pytest.raises(Unsupported, match="toy"):
        opened().services()


def test_a_layout_that_nobody_brought_is_unknown() -> None:
    with pytest.raises(InvalidURL, match="'toy'"):
        Registry("memory://x?layout=toy")
    with pytest.raises(PluginError, match="toy"):
        Registry("memory://x?layout=toy", plugins=[Plugin(), Plugin()])
