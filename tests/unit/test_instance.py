"""Instances: every field is checked before anything is written, and what is refused is named."""

from __future__ import annotations

import copy
import enum
import math
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters import Instance, Registry
from sofa_registry_adapters.errors import InvalidArgument, InvalidName
from sofa_registry_adapters.model.instance import (
    EMPTY,
    MAX_METADATA_BYTES,
    MAX_METADATA_ENTRIES,
    MAX_WEIGHT,
    Extra,
    Metadata,
    check_host,
    check_metadata,
    check_port,
    check_weight,
    join_address,
    split_address,
)


class Text(str):
    __slots__ = ()


class Number(int):
    __slots__ = ()


class Zone(enum.StrEnum):
    EAST = "east"


def test_the_defaults() -> None:
    one = Instance.of("10.0.0.7:12200")
    assert (one.host, one.port, one.instance_id, one.address) == ("10.0.0.7", 12200, "10.0.0.7:12200", "10.0.0.7:12200")
    assert (one.weight, one.enabled, one.zone, one.protocol, one.state) == (100, True, "", "", "up")
    assert one.metadata is EMPTY


@pytest.mark.parametrize(
    ("address", "host", "port"),
    (
        ("h:1", "h", 1),
        ("example.org.:65535", "example.org.", 65535),
        ("under_score:80", "under_score", 80),
        ("h:00080", "h", 80),
        ("[::1]:80", "::1", 80),
        ("[2001:DB8:0:0::1]:80", "2001:db8::1", 80),
        ("[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("[h]:80", "h", 80),
    ),
)
def test_addresses(address: str, host: str, port: int) -> None:
    found, number = split_address(address)
    assert (found.replace("::ffff:a00:1", "::ffff:10.0.0.1"), number) == (host, port)
    one = Instance.of(address)
    assert split_address(one.address) == (one.host, one.port)
    assert Instance.of(one.instance_id).instance_id == one.instance_id


@pytest.mark.parametrize(
    "address",
    (
        "",
        ":",
        ":80",
        "h",
        "h:",
        "h:80a",
        "h: 80",
        "h:-1",
        "h:+80",
        "h:0",
        "h:65536",
        "h:999999",
        f"h:8{chr(0x660)}",
        "h:8_0",
        "h:²",
        "::1:80",
        "2001:db8::1:80",
        "[::1]",
        "[::1]80",
        "[]:80",
        "[::1:80",
        "::1]:80",
        "[::g]:80",
        "a b:80",
        "a/b:80",
        "1.2.3:80",
        "1.2.3.256:80",
        "1.2.3.04:80",
        "-a:80",
        "a-:80",
        "a..b:80",
        ".:80",
        "a\n:80",
        "a\x00:80",
        "ü:80",
        f"{'a' * 64}:80",
        f"{'a.' * 127}:80",
        "http://h:80",
    ),
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Instance.of(address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", (None, 1, 1.5, b"h:80", ("h", 80), object()))
def test_what_is_no_address_at_all(address: Any) -> None:
    with pytest.raises(InvalidArgument, match=type(address).__name__):
        Instance.of(address)


@pytest.mark.parametrize("host", ("fe80::1%x\ny", "fe80::1%a b", "fe80::1%\x00", "fe80::1%a/b", "fe80::1%\u2028"))
def test_a_scope_is_text_without_control_characters(host: str) -> None:
    with pytest.raises(InvalidArgument):
        check_host(host)


@pytest.mark.parametrize("host", (None, 1, b"h", "", "x" * 254, "."))
def test_hosts_that_are_none(host: Any) -> None:
    with pytest.raises(InvalidArgument, match="host"):
        Instance(host=host, port=80).checked()


@pytest.mark.parametrize("port", (0, -1, 65536, 10**30, True, "80", "80a", 80.0, None, math.nan))
def test_ports_that_are_none(port: Any) -> None:
    with pytest.raises(InvalidArgument, match="port"):
        check_port(port)
    with pytest.raises(InvalidArgument, match="port"):
        Instance(host="h", port=port).checked()


@pytest.mark.parametrize("weight", (-1, MAX_WEIGHT + 1, 10**30, True, False, math.nan, math.inf, 1.5, 1.0, "1", None))
def test_weights_that_are_none(weight: Any) -> None:
    with pytest.raises(InvalidArgument, match="weight"):
        check_weight(weight)
    with pytest.raises(InvalidArgument, match="weight"):
        Instance.of("h:1", weight=weight)


@pytest.mark.parametrize("weight", (0, 1, 100, MAX_WEIGHT))
def test_weights(weight: int) -> None:
    assert Instance.of("h:1", weight=weight).weight == weight


@pytest.mark.parametrize(
    ("metadata", "said"),
    (
        ("text", "str"),
        ([("a", "b")], "list"),
        ({"a": 1}, "'a' is 1"),
        ({1: "a"}, "1 is 'a'"),
        ({"a": None}, "None"),
        ({"a": b"b"}, "b'b'"),
        ({"a": "\ud800"}, "UTF-8"),
        ({"\ud800": "a"}, "UTF-8"),
        ({"sofa.x": "a"}, "reserved"),
        ({"a": "x" * (MAX_METADATA_BYTES + 1)}, str(MAX_METADATA_BYTES)),
        ({"a": "x" * 1_000_000}, "bytes"),
        ({"ä" * 40_000: ""}, "80000 bytes"),
        ({str(number): "" for number in range(MAX_METADATA_ENTRIES + 1)}, str(MAX_METADATA_ENTRIES)),
    ),
)
def test_metadata_that_is_none(metadata: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        Instance.of("h:1", metadata=metadata)
    assert len(str(caught.value)) < 300


def test_metadata_at_its_bounds() -> None:
    entries = {str(number): "" for number in range(MAX_METADATA_ENTRIES)}
    assert Instance.of("h:1", metadata=entries).metadata == entries
    assert check_metadata({"a": "x" * (MAX_METADATA_BYTES - 1)})["a"][0] == "x"
    assert check_metadata({}) is EMPTY
    assert check_metadata(None) is EMPTY


def test_metadata_is_read_only_and_a_copy() -> None:
    given = {"a": "b"}
    one = Instance.of("h:1", metadata=given)
    given["a"] = "c"
    assert one.metadata == {"a": "b"}
    for change in (
        lambda data: data.__setitem__("a", "x"),
        lambda data: data.__delitem__("a"),
        lambda data: data.update(a="x"),
        lambda data: data.setdefault("x", "y"),
        lambda data: data.__ior__({"x": "y"}),
        lambda data: data.pop("a"),
        lambda data: data.popitem(),
        lambda data: data.clear(),
    ):
        with pytest.raises(TypeError, match="read-only"):
            change(one.metadata)
    assert one.metadata == {"a": "b"}


@pytest.mark.parametrize("field", ("instance_id", "protocol", "zone"))
@pytest.mark.parametrize("value", ("a\nb", "\x00", "x" * 256, "x" * 300, 1, b"a", "\udfff"))
def test_texts_that_are_none(field: str, value: Any) -> None:
    with pytest.raises(InvalidName):
        Instance.of("h:1", **{field: value})


@pytest.mark.parametrize("enabled", (0, 1, "yes", None))
def test_enabled_is_true_or_false(enabled: Any) -> None:
    with pytest.raises(InvalidArgument, match="enabled"):
        Instance.of("h:1", enabled=enabled)


@pytest.mark.parametrize("started", ("now", 1.5, 2**80, -1, True, None))
def test_a_start_is_a_whole_number_that_every_reader_takes(started: Any) -> None:
    with pytest.raises(InvalidArgument, match="started"):
        Instance(host="h", port=1, started=started).checked()


def test_an_extra_field_that_no_record_can_carry_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        Instance(host="h", port=1, extra=Extra({"x": object()})).checked()


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="state"):
        Instance(host="h", port=1, state="gone").checked()  # type: ignore[arg-type]


def test_subclasses_of_text_and_numbers_become_plain() -> None:
    one = Instance.of("h:1", zone=Zone.EAST, weight=Number(3), metadata={Text("a"): Text("b")}, protocol=Text("p"))
    assert (one.zone, one.weight, one.metadata, one.protocol) == ("east", 3, {"a": "b"}, "p")
    assert {type(one.zone), type(one.protocol), type(one.metadata["a"])} == {str}
    assert type(one.weight) is int
    msgspec.json.encode({"zone": one.zone, "weight": one.weight, "metadata": dict(one.metadata)})


def test_a_registry_publishes_subclasses_of_text(request: pytest.FixtureRequest) -> None:
    with Registry(f"memory://{request.node.name}") as registry:
        registry.publish("a", "h:1", metadata={"a": Text("b")}, weight=Number(7), timeout=1)
        assert registry.lookup("a")[0].metadata == {"a": "b"}


def test_an_instance_that_cannot_be_written_harms_no_other(request: pytest.FixtureRequest) -> None:
    with Registry(f"memory://{request.node.name}") as registry:
        with pytest.raises(InvalidArgument):
            registry.publish("bad", Instance(host="h", port=1, extra=Extra({"x": object()})), required=False)
        assert registry.publish("good", "h:2", timeout=1).state == "live"


def test_checking_writes_the_usual_form_of_an_address() -> None:
    assert Instance(host="2001:DB8:0::1", port=80).checked().host == "2001:db8::1"


def test_instances_are_values() -> None:
    one, other = (Instance.of("h:1", metadata={"a": "b"}) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert {one: 1}[other] == 1
    assert one != msgspec.structs.replace(one, weight=1)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert isinstance(copy.deepcopy(one).metadata, Metadata)
    assert hash(Instance(host="h", port=1, extra=Extra({"a": [1]}))) == hash(
        Instance(host="h", port=1, extra=Extra({"a": [2]}))
    )
    with pytest.raises(AttributeError):
        one.weight = 3  # type: ignore[misc]


def test_an_instance_given_as_an_address_is_checked() -> None:
    one = Instance(host="h", port=1)
    assert Instance.of(one).instance_id == "h:1"
    with pytest.raises(InvalidArgument):
        Instance.of(Instance(host="h", port=0))


@given(st.ip_addresses(v=6) | st.ip_addresses(v=4), st.integers(1, 65535))
def test_an_address_round_trips(address: Any, port: int) -> None:
    joined = join_address(str(address), port)
    assert split_address(joined) == (str(address), port)
    assert Instance.of(joined).address == joined


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_clear_refusal(text: str) -> None:
    try:
        one = Instance.of(text)
    except InvalidArgument:
        return
    assert split_address(one.address) == (one.host, one.port)
