"""Promises about publishing, in both faces: what is written is what is read, and withdrawal is told."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest

from sofa_registry_adapters.errors import (
    AlreadyPublished,
    Closed,
    InvalidArgument,
    UnroutableAddress,
    ValueTooLarge,
)
from sofa_registry_adapters.model.events import Published as PublishedEvent
from sofa_registry_adapters.model.events import Withdrawn
from sofa_registry_adapters.model.instance import Extra, Instance, Metadata
from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.contract.clients import FaceName, Recorder
from sofa_registry_adapters.testing.contract.kit import ECHO, STEP, Registries, takes
from sofa_registry_adapters.testing.faults import eventually

FULL = Instance(
    host="10.0.0.7",
    port=12200,
    instance_id="Seven of 9/ä",
    protocol="bolt",
    weight=0,
    enabled=False,
    zone="zone ß",
    metadata=Metadata({"empty": "", "ключ": "значение 🙂", "a=b&c": '"\\\n'}),
)
WITHDRAWN_WITHIN = 0.2
"""Seconds until a consumer knows of a withdrawal, on a registry with push."""


class PublishingContract:
    """See the module."""

    def test_01_lookup_finds_every_field(self, registries: Registries, face: FaceName) -> None:
        """What is published is found with every field as it was given, its start and its owner filled in."""
        publisher, consumer = registries.open(face), registries.open(face)
        before = int(time.time() * 1000)
        published = publisher.publish(ECHO, FULL)
        assert published.state == "live"
        (found,) = consumer.lookup(ECHO)
        assert found == published.instances[0]
        for field in ("host", "port", "instance_id", "protocol", "weight", "enabled", "zone", "metadata"):
            assert getattr(found, field) == getattr(FULL, field), field
        assert before - 1000 <= found.started <= time.time() * 1000 + 1000
        assert found.owner
        assert found.state == "up"

    @pytest.mark.parametrize("address", ("[2001:db8::1]:80", "[::ffff:192.0.2.1]:65535", "echo.example:1"))
    def test_01_any_kind_of_address(self, registries: Registries, face: FaceName, address: str) -> None:
        """IPv6 addresses and host names work, and make the id where none is given."""
        publisher, consumer = registries.open(face), registries.open(face)
        publisher.publish(ECHO, address)
        (found,) = consumer.lookup(ECHO)
        assert found.instance_id == found.address
        assert found == publisher.lookup(ECHO)[0]

    def test_02_unknown_fields_are_kept(self, registries: Registries, face: FaceName) -> None:
        """Fields that this version does not know survive publishing and updating."""
        extra = Extra({"future": {"nested": [1, None, "x"]}, "flag": True})
        publisher, consumer = registries.open(face), registries.open(face)
        published = publisher.publish(ECHO, Instance(host="10.0.0.1", port=1, extra=extra))
        published.update(weight=7)
        (found,) = consumer.lookup(ECHO)
        assert dict(found.extra) == dict(extra)
        assert found.weight == 7

    def test_03_clients_see_each_other(self, registries: Registries, face: FaceName) -> None:
        """Whatever one client publishes every client finds, its own included."""
        clients = [registries.open(face) for _ in range(3)]
        for number, client in enumerate(clients):
            client.publish(ECHO, f"10.0.0.{number}:1")
        for client in clients:
            assert client.ids(ECHO) == {"10.0.0.0:1", "10.0.0.1:1", "10.0.0.2:1"}

    def test_04_one_registration_of_several_instances(self, registries: Registries, face: FaceName) -> None:
        """Several instances are one registration: an update and a withdrawal apply to all of them."""
        publisher, consumer = registries.open(face), registries.open(face)
        published = publisher.publish(ECHO, [f"10.0.0.{number}:1" for number in range(5)], weight=1, zone="a")
        assert {(one.weight, one.zone) for one in consumer.lookup(ECHO)} == {(1, "a")}
        published.update(weight=2)
        assert {(one.weight, one.zone) for one in consumer.lookup(ECHO)} == {(2, "a")}
        assert len(consumer.lookup(ECHO)) == 5
        published.unpublish()
        assert consumer.ids(ECHO) == set()

    def test_05_update_is_seen(self, registries: Registries, face: FaceName) -> None:
        """An update changes the named fields only, and is in the registry when it returns."""
        publisher, consumer = registries.open(face), registries.open(face)
        published = publisher.publish(ECHO, FULL)
        published.update(weight=5, enabled=True, metadata={"new": "1"})
        (found,) = consumer.lookup(ECHO)
        assert (found.weight, found.enabled, dict(found.metadata)) == (5, True, {"new": "1"})
        assert (found.zone, found.protocol, found.instance_id) == (FULL.zone, FULL.protocol, FULL.instance_id)
        assert published.state == "live"

    def test_06_withdrawn_is_gone(self, registries: Registries, face: FaceName) -> None:
        """When unpublish returns the instance is gone, the rest is there, and a second call does nothing."""
        publisher, consumer = registries.open(face), registries.open(face)
        published = publisher.publish(ECHO, "10.0.0.1:1")
        publisher.publish(ECHO, "10.0.0.2:1")
        published.unpublish()
        assert published.state == "withdrawn"
        assert consumer.ids(ECHO) == {"10.0.0.2:1"}
        published.unpublish()
        with pytest.raises(Closed):
            published.update(weight=1)
        assert consumer.ids(ECHO) == {"10.0.0.2:1"}

    def test_06_withdrawal_is_told_before_it_is_done(self, registries: Registries, face: FaceName) -> None:
        """Views drop a leaving instance at once, though its record stays for the leaving time."""
        if not registries.capabilities.announces_withdrawal:
            not_applicable("the registry declares announces_withdrawal=False")
        publisher, consumer = registries.open(face, leaving=1.2 + registries.poll), registries.open(face)
        published, recorder = publisher.publish(ECHO, "10.0.0.1:1"), Recorder()
        consumer.subscribe(ECHO, recorder)
        assert recorder.ids == {"10.0.0.1:1"}
        withdrawing = threading.Thread(target=published.unpublish, args=(10.0,))
        withdrawing.start()
        try:
            eventually(lambda: not recorder.ids, 0.9 + registries.poll, "the view dropped it")
            assert withdrawing.is_alive(), "the view dropped it only when the record was deleted"
            assert consumer.ids(ECHO) == set()
        finally:
            withdrawing.join(10.0)

    def test_06_withdrawal_is_known_at_once(self, registries: Registries, face: FaceName) -> None:
        """Consumers know of the withdrawal of a sole provider within 200 ms, or when a write is visible."""
        if not registries.capabilities.push:
            not_applicable("the registry declares push=False")
        publisher, consumer, taken = registries.open(face), registries.open(face), []
        recorder = Recorder()
        consumer.subscribe(ECHO, recorder)
        for _ in range(5):
            published = publisher.publish(ECHO, "10.0.0.1:1")
            eventually(lambda: recorder.ids, STEP, "the consumer sees the provider")
            began = time.monotonic()
            published.unpublish()
            eventually(lambda: not recorder.ids, STEP, "the consumer sees the withdrawal")
            taken.append(recorder.times[-1] - began)
        bound = WITHDRAWN_WITHIN + registries.capabilities.visible_within
        assert sorted(taken)[2] <= bound, f"the median of {taken}"

    def test_07_publish_again(self, registries: Registries, face: FaceName) -> None:
        """What was withdrawn can be published again with the same id, as often as one likes."""
        publisher, consumer = registries.open(face, leaving=0.05), registries.open(face)
        for weight in range(1, 6):
            published = publisher.publish(ECHO, "10.0.0.1:1", weight=weight)
            assert [one.weight for one in consumer.lookup(ECHO)] == [weight]
            published.unpublish()
            assert not consumer.lookup(ECHO)

    def test_08_the_same_id_twice(self, registries: Registries, face: FaceName) -> None:
        """One Registry publishes an id of a service once; the second time raises and changes nothing."""
        publisher, consumer = registries.open(face), registries.open(face)
        published = publisher.publish(ECHO, "10.0.0.1:1", weight=1)
        with pytest.raises(AlreadyPublished):
            publisher.publish(ECHO, "10.0.0.1:1", weight=2)
        with pytest.raises(AlreadyPublished):
            publisher.publish(ECHO, ["10.0.0.2:1", "10.0.0.2:1"])
        with pytest.raises(AlreadyPublished):
            publisher.publish(ECHO, "10.0.0.9:9", instance_id="10.0.0.1:1")
        publisher.publish("another", "10.0.0.1:1")
        assert [(one.instance_id, one.weight) for one in consumer.lookup(ECHO)] == [("10.0.0.1:1", 1)]
        assert published.state == "live"

    def test_09_bad_values_are_refused_before_anything_is_written(self, registries: Registries, face: FaceName) -> None:
        """A bad port, weight, metadata or address is a typed error; nothing is written, others are unharmed."""
        publisher, consumer = registries.open(face), registries.open(face)
        standing = publisher.publish(ECHO, "10.0.0.1:1")
        addresses: tuple[Any, ...] = (
            "10.0.0.2:0",
            "10.0.0.2:65536",
            "10.0.0.2:80a",
            "10.0.0.2",
            ":1",
            "::1:1",
            "a b:1",
            "",
            7,
        )
        for address in addresses:
            with pytest.raises(InvalidArgument):
                publisher.publish("refused", address)
        for weight in (math.nan, -1, 10**9, 1.5, "1", True):
            with pytest.raises(InvalidArgument):
                publisher.publish("refused", "10.0.0.2:1", weight=weight)
            with pytest.raises(InvalidArgument):
                standing.update(weight=weight)
        for metadata in ({"a": 1}, {1: "a"}, {"a": "x" * 1_000_000}, {"sofa.a": "1"}, {"a": "\ud800"}, "a"):
            with pytest.raises(InvalidArgument):
                publisher.publish("refused", "10.0.0.2:1", metadata=metadata)
        for timeout in (0, -1, math.nan, math.inf, "1"):
            with pytest.raises(InvalidArgument):
                publisher.publish("refused", "10.0.0.2:1", timeout=timeout)
        assert [str(key) for key in consumer.services()] == [str(ECHO)]
        assert consumer.lookup(ECHO)[0] == standing.instances[0]
        assert standing.state == "live"

    def test_09_too_much_is_refused_before_it_is_sent(self, registries: Registries, face: FaceName) -> None:
        """A record larger than the product takes raises ValueTooLarge; the others of the Registry stay."""
        publisher, consumer = registries.open(face), registries.open(face)
        standing = publisher.publish(ECHO, "10.0.0.1:1")
        lost = publisher.heard(PublishedEvent)
        huge = Extra({"x": "y" * (registries.capabilities.max_value_bytes + 1)})
        with pytest.raises(ValueTooLarge):
            publisher.publish("huge", Instance(host="10.0.0.2", port=1, extra=huge))
        with pytest.raises(ValueTooLarge):
            publisher.publish(ECHO, ["10.0.0.3:1", Instance(host="10.0.0.2", port=1, extra=huge)])
        eventually(lambda: consumer.ids(ECHO) == {"10.0.0.1:1"}, STEP, "all of a registration or nothing")
        assert not consumer.lookup("huge")
        assert standing.state == "live"
        assert not lost, "the standing registration never had to be published again"

    def test_09_addresses_that_lead_nowhere(self, registries: Registries, face: FaceName) -> None:
        """A wildcard address is refused with advice, or allowed by where the registry is; never half written."""
        publisher, consumer = registries.open(face), registries.open(face)
        try:
            publisher.publish(ECHO, "0.0.0.0:80")
        except UnroutableAddress:
            assert not consumer.lookup(ECHO)
        else:
            assert len(consumer.lookup(ECHO)) == 1

    def test_10_services(self, registries: Registries, face: FaceName) -> None:
        """Services are listed, sorted, for as long as they have an instance; an unknown one is empty."""
        if not registries.capabilities.list_services:
            not_applicable("the registry declares list_services=False")
        publisher, consumer = registries.open(face), registries.open(face)
        assert list(consumer.services()) == []
        published = [publisher.publish(name, "10.0.0.1:1") for name in ("b:1.0:g", "a", "a:2.0")]
        assert [str(key) for key in consumer.services()] == ["a", "a:2.0", "b:1.0:g"]
        published[0].unpublish()
        assert [str(key) for key in consumer.services()] == ["a", "a:2.0"]
        assert not consumer.lookup("nobody")

    def test_11_close_withdraws(self, registries: Registries, face: FaceName) -> None:
        """Close withdraws all of the Registry's own within two seconds, and nothing else; once is enough."""
        publisher, other, consumer = (registries.open(face) for _ in range(3))
        publisher.publish(ECHO, [f"10.0.0.{number}:1" for number in range(20)])
        publisher.publish("another", "10.0.0.1:1")
        other.publish(ECHO, "10.0.1.1:1")
        with takes(2.0, "close"):
            publisher.close()
        publisher.close()
        assert consumer.ids(ECHO) == {"10.0.1.1:1"}
        assert not consumer.lookup("another")

    def test_11_verbs_after_close(self, registries: Registries, face: FaceName) -> None:
        """After close every verb raises Closed."""
        client = registries.open(face)
        client.publish(ECHO, "10.0.0.1:1")
        client.close()
        for verb in (
            lambda: client.publish(ECHO, "10.0.0.2:1"),
            lambda: client.lookup(ECHO),
            lambda: client.subscribe(ECHO, Recorder()),
            lambda: client.watch(ECHO),
            client.services,
        ):
            with pytest.raises(Closed):
                verb()
        never = registries.open(face)
        never.close()
        with pytest.raises(Closed):
            never.lookup(ECHO)

    def test_12_events_of_a_registration(self, registries: Registries, face: FaceName) -> None:
        """The bus tells that a registration was published and withdrawn, once each, in this order."""
        client = registries.open(face)
        events: list[object] = []
        client.on(PublishedEvent, events.append)
        client.on(Withdrawn, events.append)
        client.publish(ECHO, "10.0.0.1:1").unpublish()
        eventually(lambda: len(events) >= 2, STEP, "both events come")
        assert events == [PublishedEvent(ECHO, ("10.0.0.1:1",)), Withdrawn(ECHO, ("10.0.0.1:1",))]
