"""The native layout: what goes in comes out, what is unknown is kept, what is corrupt costs itself only."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sofa_registry_adapters import Instance, ServiceKey
from sofa_registry_adapters.errors import CorruptRecord
from sofa_registry_adapters.layouts.native import MAX_BYTES, NativeLayout, decode_instance, encode_instance
from sofa_registry_adapters.model.instance import EMPTY, NOTHING, Extra, Metadata
from sofa_registry_adapters.model.names import ServiceKey as Key
from sofa_registry_adapters.spi.store import Bucket, Record, Stored

SERVICE = ServiceKey("com.acme.Hello", "1.0")
LAYOUT = NativeLayout()
GOOD: dict[str, Any] = {"v": 1, "id": "a", "host": "h", "port": 80}

plain = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=5,
)
extras = st.dictionaries(plain.map(lambda name: f"x-{name}"), values, max_size=3)
instances = st.builds(
    lambda host, port, name, metadata, extra, **fields: Instance(
        host=host,
        port=port,
        instance_id=name or f"{host}:{port}",
        metadata=Metadata(metadata) if metadata else EMPTY,
        extra=Extra(extra) if extra else NOTHING,
        **fields,
    ),
    st.sampled_from(["10.0.0.7", "example.org", "localhost"]),
    st.integers(1, 65535),
    plain,
    st.dictionaries(plain.filter(lambda name: not name.startswith("sofa.")), plain, max_size=3),
    extras,
    protocol=plain,
    weight=st.integers(0, 1_000_000),
    enabled=st.booleans(),
    zone=plain,
    started=st.integers(0, 2**53),
    state=st.sampled_from(["up", "leaving"]),
    owner=plain,
)


def stored(record: Record) -> Stored:
    return Stored(record, "1", "other")


def value(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


@given(instances)
def test_what_goes_in_comes_out(one: Instance) -> None:
    record = LAYOUT.record(SERVICE, one)
    assert LAYOUT.decode(SERVICE, stored(record), {}) == one
    assert record.bucket == LAYOUT.bucket(SERVICE).path
    assert record.owned
    assert "/" not in record.name
    assert record.name not in {".", ".."}
    assert json.loads(record.value)["id"] == one.instance_id


@given(instances, instances)
def test_two_ids_never_share_a_record(one: Instance, other: Instance) -> None:
    same = LAYOUT.record(SERVICE, one).key == LAYOUT.record(SERVICE, other).key
    assert same == (one.instance_id == other.instance_id)


@given(extras)
def test_unknown_fields_are_kept(extra: dict[str, Any]) -> None:
    decoded = decode_instance(value(**extra))
    again = json.loads(encode_instance(decoded))
    assert again == {**GOOD, **extra}


def test_unknown_fields_survive_an_update() -> None:
    decoded = decode_instance(value(**{"x-colour": ["red", {"n": 1}]}))
    changed = msgspec.structs.replace(decoded, weight=5)
    assert json.loads(encode_instance(changed)) == {**GOOD, "weight": 5, "x-colour": ["red", {"n": 1}]}


def test_a_record_is_readable_and_short() -> None:
    one = Instance.of("10.0.0.7:12200", metadata={"zone": "a"})
    assert LAYOUT.record(SERVICE, one) == Record(
        ("services", "com.acme.Hello:1.0"),
        "10.0.0.7:12200",
        b'{"v":1,"id":"10.0.0.7:12200","host":"10.0.0.7","port":12200,"metadata":{"zone":"a"}}',
    )


def test_fields_at_their_default_are_left_out() -> None:
    assert json.loads(encode_instance(Instance.of("h:80", instance_id="a"))) == GOOD


def test_names_with_slashes_stay_in_their_bucket() -> None:
    record = LAYOUT.record(Key("../etc"), Instance.of("h:1", instance_id="../../passwd"))
    assert record.key == (("services", "..%2Fetc"), "..%2F..%2Fpasswd")
    assert LAYOUT.bucket(Key("..")) == Bucket(("services", "%2E%2E"))


def test_listing() -> None:
    assert LAYOUT.root() == ("services",)
    assert LAYOUT.service_of(SERVICE.segment) == SERVICE


@pytest.mark.parametrize("segment", ("", "%", "a:b:c:d", "%zz", "\ud800", "%00", "x" * 300, "a b"))
def test_a_foreign_bucket_is_no_service(segment: str) -> None:
    assert LAYOUT.service_of(segment) is None


def test_a_later_version_is_read_an_earlier_one_is_not() -> None:
    assert decode_instance(value(v=2, news=1)).extra == {"news": 1}
    for version in (0, -1):
        with pytest.raises(CorruptRecord, match="version"):
            decode_instance(value(v=version))


def test_the_id_in_the_value_is_the_one_in_the_name() -> None:
    record = Record(LAYOUT.bucket(SERVICE).path, "b", value())
    with pytest.raises(CorruptRecord, match="'b'"):
        LAYOUT.decode(SERVICE, stored(record), {})


BOMB = b"[" * 100_000
CORRUPT = {
    "nothing": b"",
    "zero": b"\x00",
    "blank": b"   ",
    "text": b"hello",
    "number": b"1",
    "null": b"null",
    "list": b"[]",
    "empty": b"{}",
    "half": b'{"v":1,"id":"a"',
    "two": b'{"v":1,"id":"a","host":"h","port":80}{}',
    "byte order mark": b"\xef\xbb\xbf" + value(),
    "utf-16": value().decode().encode("utf-16"),
    "no utf-8": b'{"v":1,"id":"a\xff","host":"h","port":80}',
    "no utf-8 in a key": b'{"v":1,"id":"a","host":"h","port":80,"\xff":1}',
    "surrogate": b'{"v":1,"id":"\\ud800","host":"h","port":80}',
    "surrogate in extra": b'{"v":1,"id":"a","host":"h","port":80,"x":"\\ud800"}',
    "deep": BOMB,
    "deep extra": value()[:-1] + b',"x":' + BOMB + b"}",
    "deep objects": b'{"a":' * 100_000,
    "deep metadata": value()[:-1] + b',"metadata":' + b'{"a":' * 100_000 + b"}",
    "NaN": value()[:-1] + b',"weight":NaN}',
    "Infinity": value()[:-1] + b',"weight":Infinity}',
    "NaN in extra": value()[:-1] + b',"x":NaN}',
    "huge float": value()[:-1] + b',"x":1e999}',
    "huge whole": value()[:-1] + b',"port":' + b"9" * 5000 + b"}",
    "huge extra": value()[:-1] + b',"x":' + b"9" * 5000 + b"}",
    "too long": value(zone="x" * MAX_BYTES),
    "long zone": value(zone="x" * 256),
    "control in id": value(id="a\nb"),
    "control in zone": value(zone="a\x00b"),
    "empty id": value(id=""),
    "empty host": value(host=""),
    "host": value(host="a b"),
    "host with newline": value(host="h\n"),
    "port 0": value(port=0),
    "port 65536": value(port=65536),
    "port text": value(port="80"),
    "port true": value(port=True),
    "port float": value(port=80.0),
    "port null": value(port=None),
    "weight": value(weight=-1),
    "weight huge": value(weight=10**30),
    "enabled": value(enabled=1),
    "state": value(state="gone"),
    "started": value(started="now"),
    "metadata list": value(metadata=["a"]),
    "metadata number": value(metadata={"a": 1}),
    "metadata many": value(metadata={str(number): "" for number in range(300)}),
    "metadata large": value(metadata={"a": "x" * 70_000}),
    "no version": json.dumps({key: item for key, item in GOOD.items() if key != "v"}).encode(),
    "version text": value(v="1"),
    "wrong id": value(id=["a"]),
    "owner": value(owner=5),
}


@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT.keys())
def test_corrupt_bytes_are_a_corrupt_record(corrupt: bytes) -> None:
    with pytest.raises(CorruptRecord) as caught:
        LAYOUT.decode(SERVICE, stored(Record(LAYOUT.bucket(SERVICE).path, "a", corrupt)), {})
    assert 0 < len(str(caught.value)) < 1000


def test_of_a_field_given_twice_one_counts() -> None:
    assert decode_instance(b'{"v":1,"id":"a","id":"b","host":"h","port":80}').instance_id in {"a", "b"}


@pytest.mark.parametrize("number", (2**63, 2**64, 10**30, -(10**30)))
def test_a_start_that_no_clock_tells_is_corrupt(number: int) -> None:
    with pytest.raises(CorruptRecord):
        decode_instance(value(started=number))


@pytest.mark.parametrize("number", (2**64, 10**30))
def test_a_huge_number_in_an_unknown_field_is_written_back_or_corrupt(number: int) -> None:
    try:
        decoded = decode_instance(value(x=number))
    except CorruptRecord:
        return
    assert json.loads(encode_instance(decoded))["x"] == number


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)
FIELDS = ("v", "id", "host", "port", "weight", "enabled", "metadata", "started", "state", "x")
near = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2).map(
    lambda fields: json.dumps({**GOOD, **fields}).encode("utf-8", "surrogatepass")
)
FRAGMENTS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"NaN",
    b"1e999",
    b"-",
    b"9" * 30,
]
FRAGMENTS += [
    value(),
    value()[:-1],
    b'"v":1,',
    b'"port":80',
    b'"metadata":{',
    b'"x":',
    b"null",
    b"true",
    b" ",
    b'"started":1',
    b"[" * 1000,
]


def only_corrupt(raw: bytes) -> None:
    try:
        one = decode_instance(raw)
    except CorruptRecord:
        return
    assert decode_instance(encode_instance(one)) == one


@given(st.binary(max_size=60))
@settings(max_examples=6000, deadline=None)
@example(b'{"v":1,"id":"a","host":"h","port":80,"x":-0.0}')
def test_any_bytes_are_an_instance_or_a_corrupt_record(raw: bytes) -> None:
    only_corrupt(raw)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(b"".join))
@settings(max_examples=3000, deadline=None)
def test_any_heap_of_fragments_is_an_instance_or_a_corrupt_record(raw: bytes) -> None:
    only_corrupt(raw)


@given(near, st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=3))
@settings(max_examples=1000, deadline=None)
def test_a_mangled_record_is_an_instance_or_a_corrupt_record(raw: bytes, damage: dict[int, int]) -> None:
    only_corrupt(bytes(damage.get(position, byte) for position, byte in enumerate(raw)))


def test_what_many_instances_say_alike_is_kept_once() -> None:
    text = {"zone": "zone-1", "protocol": "bolt", "owner": "8f3a2b19"}
    made = [
        decode_instance(
            encode_instance(
                Instance(host="h", port=number, instance_id=f"h:{number}", metadata=Metadata({"a": "b" * 9}), **text)
            )
        )
        for number in (1, 2)
    ]
    for name in ("metadata", "zone", "protocol", "owner"):
        assert getattr(made[0], name) is getattr(made[1], name)
    assert made[0].metadata == {"a": "b" * 9}


def test_large_metadata_is_kept_by_nobody_but_its_instance() -> None:
    value = encode_instance(Instance(host="h", port=1, instance_id="h:1", metadata=Metadata({"a": "b" * 2_000})))
    one, other = decode_instance(value), decode_instance(value)
    assert one.metadata == other.metadata
    assert one.metadata is not other.metadata
