from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters.backends.nacos import wire

TEXT = st.text(max_size=300)


@given(kind=TEXT, body=st.binary(max_size=1000), headers=st.dictionaries(TEXT, TEXT, max_size=5), address=TEXT)
def test_a_payload_comes_back(kind: str, body: bytes, headers: dict[str, str], address: str) -> None:
    found, data = wire.decode(wire.encode(kind, body, headers, address))
    assert (found, bytes(data)) == (kind, body)


def test_the_bytes_are_those_of_protobuf() -> None:
    """What protoc's code makes of Payload(Metadata(type="T", clientIp="1.2.3.4", headers={"k": "v"}), Any(value="{}"))."""
    metadata = b"\x1a\x01T:\x06\n\x01k\x12\x01vB\x071.2.3.4"
    assert (
        wire.encode("T", b"{}", {"k": "v"}, "1.2.3.4")
        == b"\x12" + bytes([len(metadata)]) + metadata + b"\x1a\x04\x12\x02{}"
    )


def test_a_large_body_comes_back() -> None:
    body = b"x" * 10_000_000
    assert bytes(wire.decode(wire.encode("T", body, {}, ""))[1]) == body


def test_fields_of_a_later_version_are_passed_over() -> None:
    payload = (
        b"\x08\x96\x01" + wire.encode("T", b"{}", {}, "") + b"\x21" + b"\0" * 8 + b"\x2d" + b"\0" * 4 + b"\xa2\x06\x01x"
    )
    kind, body = wire.decode(payload)
    assert (kind, bytes(body)) == ("T", b"{}")


@pytest.mark.parametrize("payload", (b"\x12", b"\x12\x05ab", b"\x1a\xff", b"\xff" * 12, b"\x13", b"\x12\x80"))
def test_what_is_no_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no payload"):
        wire.decode(payload)
