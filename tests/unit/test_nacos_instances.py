from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters.backends.nacos.instances import MAX_METADATA, host_of, listed
from sofa_registry_adapters.errors import ValueTooLarge
from sofa_registry_adapters.model.instance import Extra, Instance, Metadata

PLAIN = Instance.of("10.0.0.7:12200")
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)


def back(instance: Instance) -> Instance | None:
    return listed(msgspec.json.encode(host_of(instance))).instance


def said(**fields: object) -> bytes:
    return msgspec.json.encode({"ip": "10.0.0.7", "port": 12200, **fields})


@given(
    name=TEXT,
    weight=st.integers(0, 1_000_000),
    enabled=st.booleans(),
    zone=TEXT,
    protocol=TEXT,
    metadata=st.dictionaries(TEXT.filter(lambda key: not key.startswith("sofa.")), TEXT, max_size=5),
    started=st.integers(0, 2**60),
    state=st.sampled_from(("up", "leaving")),
    owner=TEXT,
    extra=st.dictionaries(TEXT, st.one_of(st.none(), st.integers(-9, 9), st.lists(TEXT, max_size=2)), max_size=3),
)
def test_every_field_survives_the_round_trip(**fields: object) -> None:
    name, metadata, extra = fields.pop("name"), fields.pop("metadata"), fields.pop("extra")
    instance = msgspec.structs.replace(
        Instance.of("10.0.0.7:12200", instance_id=str(name)), metadata=Metadata(metadata), extra=Extra(extra), **fields
    )
    assert back(instance.checked()) == instance


@pytest.mark.parametrize("address", ("[2001:db8::1]:80", "echo.example:1", "[::ffff:192.0.2.1]:65535"))
def test_any_kind_of_address_survives_the_round_trip(address: str) -> None:
    assert back(Instance.of(address)) == Instance.of(address)


def test_what_others_see_of_a_plain_instance() -> None:
    host = host_of(Instance.of("10.0.0.7:12200", weight=50, zone="hz-1", metadata={"a": "b"}))
    assert msgspec.to_builtins(host) == {
        "ip": "10.0.0.7",
        "port": 12200,
        "weight": 0.5,
        "healthy": True,
        "enabled": True,
        "ephemeral": True,
        "clusterName": "hz-1",
        "metadata": {"a": "b"},
    }


@pytest.mark.parametrize("fields", ({"enabled": False}, {"state": "leaving"}))
def test_nobody_sends_to_what_is_disabled_or_leaving_though_nacos_lists_it(fields: dict[str, object]) -> None:
    host = host_of(msgspec.structs.replace(PLAIN, **fields))
    assert (host.enabled, host.healthy, host.weight) == (True, False, 0.0)


@pytest.mark.parametrize("zone", ("zone ß", "DEFAULT", "a" * 65, "a_b"))
def test_a_zone_that_is_no_cluster_is_in_the_metadata(zone: str) -> None:
    instance = msgspec.structs.replace(PLAIN, zone=zone)
    assert host_of(instance).cluster_name == "DEFAULT"
    assert back(instance) == instance


def test_what_another_client_wrote() -> None:
    found = listed(
        said(
            weight=0.5,
            healthy=True,
            enabled=True,
            ephemeral=False,
            clusterName="hz-1",
            serviceName="DEFAULT_GROUP@@echo",
            instanceId="10.0.0.7#12200#hz-1#DEFAULT_GROUP@@echo",
            metadata={"preserved.register.source": "SPRING_CLOUD", "empty": None},
            instanceHeartBeatInterval=5000,
        )
    )
    assert found.instance == Instance.of(
        "10.0.0.7:12200", weight=50, zone="hz-1", metadata={"preserved.register.source": "SPRING_CLOUD", "empty": ""}
    )


@pytest.mark.parametrize(
    ("fields", "weight"),
    (({"weight": -1.0}, 0), ({"weight": 1e9}, 1_000_000), ({"weight": 0.014}, 1), ({"weight": 2}, 200)),
)
def test_weights_of_others_are_brought_into_range(fields: dict[str, object], weight: int) -> None:
    found = listed(said(**fields)).instance
    assert found is not None
    assert found.weight == weight


def test_an_unhealthy_instance_of_others_is_disabled() -> None:
    found = listed(said(healthy=False)).instance
    assert found is not None
    assert not found.enabled


@pytest.mark.parametrize(
    "raw",
    (
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        said(port=0),
        said(port="x"),
        said(ip="a b"),
        said(metadata={"sofa.started": "soon"}),
        said(metadata={"sofa.started": "-1"}),
        said(metadata={"sofa.id": "a\nb"}),
        said(metadata={"sofa.extra": "["}),
        said(metadata={"sofa.weight": "heavy"}),
        said(metadata={"sofa.updated": "x"}),
        said(metadata={"x": "y" * 70_000}),
    ),
)
def test_what_cannot_be_read_has_a_reason_and_raises_nothing(raw: bytes) -> None:
    found = listed(raw)
    assert found.instance is None
    assert found.reason


def test_fields_of_a_later_version_are_kept() -> None:
    found = listed(said(metadata={"sofa.future": "1", "mine": "2"})).instance
    assert found is not None
    assert dict(found.extra) == {"sofa.future": "1"}
    assert dict(found.metadata) == {"mine": "2"}
    assert host_of(found).metadata["sofa.future"] == "1"


@pytest.mark.parametrize("letter", ("x", "ä", "🙂"))
def test_metadata_is_measured_as_java_counts(letter: str) -> None:
    size = len(letter.encode("utf-16-le")) // 2
    fits = msgspec.structs.replace(PLAIN, metadata=Metadata({"k": letter * ((MAX_METADATA - 1) // size)}))
    assert host_of(fits)
    with pytest.raises(ValueTooLarge, match="1024"):
        host_of(msgspec.structs.replace(fits, protocol="bolt"))


def test_of_several_entries_the_latest_start_counts_then_the_latest_write() -> None:
    old, new = (msgspec.structs.replace(PLAIN, started=at, owner="a") for at in (1, 2))
    entries = [
        listed(msgspec.json.encode(host))
        for host in (host_of(new), host_of(old, "", 9), host_of(new, "", 3), host_of(PLAIN))
    ]
    best = max(entries, key=lambda entry: entry.rank)
    assert (best.instance, best.updated) == (new, 3)
