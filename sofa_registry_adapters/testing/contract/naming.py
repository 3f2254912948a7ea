"""Promises about names, in both faces: any text is a name or a clear refusal, and no two share a record."""

from __future__ import annotations

import pytest

from sofa_registry_adapters.errors import InvalidName
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.contract.kit import ECHO, Registries

HARD = (
    " ",
    "a b",
    " a",
    "a ",
    "a/b",
    "/a",
    "a/",
    "/",
    "//",
    ".",
    "..",
    "...",
    "../a",
    "a/../b",
    "%",
    "%%",
    "%2F",
    "%2f",
    "a%2Fb",
    "%3A",
    "a:b",
    ":",
    "::",
    "{a}",
    "a*b?[c]",
    "a\\b",
    "~",
    "#",
    "a&b=c",
    "'\";--",
    "Echo",
    "echo",
    "\u00e9",
    "e\u0301",
    "服务",
    "🙂",
    "zookeeper",
    "x" * 255,
    "🙂" * 255,
)
REFUSED = ("", "a\nb", "\x00", "a\x7f", "\x85", "\u2028", "\ud800", "x" * 256, "x" * 300)


class NamingContract:
    """See the module."""

    def test_13_hard_names(self, registries: Registries, face: FaceName) -> None:
        """Names of services with any printable character work, and each service has its own instance only."""
        publisher, consumer = registries.open(face), registries.open(face)
        keys = [ServiceKey(name) for name in HARD]
        keys += [ServiceKey("a", "b"), ServiceKey("a", "", "b"), ServiceKey("a", ":"), ServiceKey("a", "/", "..")]
        for number, key in enumerate(keys):
            publisher.publish(key, f"10.0.0.{number + 1}:1")
        for number, key in enumerate(keys):
            assert consumer.ids(key) == {f"10.0.0.{number + 1}:1"}, f"under {key!r}"
        if registries.capabilities.list_services:
            assert list(consumer.services()) == sorted(keys)

    def test_13_hard_instance_ids(self, registries: Registries, face: FaceName) -> None:
        """The same holds for the ids of instances: each id is one instance, found as it was given."""
        publisher, consumer = registries.open(face), registries.open(face)
        for number, name in enumerate(HARD):
            publisher.publish(ECHO, f"10.0.0.{number + 1}:1", instance_id=name)
        found = {one.instance_id: one.host for one in consumer.lookup(ECHO)}
        assert found == {name: f"10.0.0.{number + 1}" for number, name in enumerate(HARD)}

    def test_13_text_form(self, registries: Registries, face: FaceName) -> None:
        """Text names the same service as its ServiceKey; a literal colon is %3A."""
        publisher, consumer = registries.open(face), registries.open(face)
        publisher.publish("a%3Ab:1.0:g", "10.0.0.1:1")
        assert consumer.ids(ServiceKey("a:b", "1.0", "g")) == {"10.0.0.1:1"}
        assert not consumer.lookup("a:b:1.0")
        for key in consumer.services():
            assert ServiceKey.parse(str(key)) == key

    def test_14_refused_names(self, registries: Registries, face: FaceName) -> None:
        """A name that cannot be one raises InvalidName in every verb, and nothing is written."""
        publisher, consumer = registries.open(face), registries.open(face)
        standing = publisher.publish(ECHO, "10.0.0.1:1")
        for name in (*REFUSED, "a:b:c:d", 7, None, b"a"):
            for verb in (
                lambda name=name: publisher.publish(name, "10.0.0.2:1"),
                lambda name=name: publisher.lookup(name),
                lambda name=name: publisher.subscribe(name, print),
                lambda name=name: publisher.watch(name),
            ):
                with pytest.raises(InvalidName):
                    verb()
        for name in REFUSED[1:]:
            with pytest.raises(InvalidName):
                publisher.publish(ECHO, "10.0.0.2:1", instance_id=name)
        assert list(consumer.services()) == [ECHO]
        assert consumer.ids(ECHO) == {"10.0.0.1:1"}
        assert standing.state == "live"

    def test_15_neighbours(self, registries: Registries, face: FaceName) -> None:
        """A service whose name begins like another's sees none of its instances, and none of its changes."""
        publisher, consumer = registries.open(face), registries.open(face)
        names = ("foo", "foobar", "foo/bar", "foo:1", "foo:1.0", "foo::g", "fo")
        watches = {name: consumer.watch(name) for name in names}
        for watch in watches.values():
            first = watch.next()
            assert first is not None
            assert not first.instances
        for number, name in enumerate(names):
            publisher.publish(name, f"10.0.0.{number}:1")
        for number, name in enumerate(names):
            change = watches[name].next()
            assert change is not None
            assert [one.instance_id for one in change.instances] == [f"10.0.0.{number}:1"]
            assert consumer.ids(name) == {f"10.0.0.{number}:1"}
            watches[name].close()

    def test_15_namespaces(self, registries: Registries, face: FaceName) -> None:
        """Registries with different namespaces share nothing, even where one name begins like the other."""
        own = str(registries.options["namespace"])
        here, there = registries.open(face), registries.open(face, namespace=f"{own}2")
        here.publish(ECHO, "10.0.0.1:1")
        assert not there.lookup(ECHO)
        there.publish(ECHO, "10.0.0.2:1")
        assert here.ids(ECHO) == {"10.0.0.1:1"}
        assert there.ids(ECHO) == {"10.0.0.2:1"}
