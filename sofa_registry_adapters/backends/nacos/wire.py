"""The envelope of every Nacos message: a kind, headers, and a body in JSON. No I/O.

It is the protobuf message ``Payload`` of Nacos' gRPC interface (``nacos_grpc_service.proto``, the same since 2.0), coded by hand: three
messages that never change need no generated code, and none that could clash with the one of nacos-sdk-python::

    message Payload  { Metadata metadata = 2; google.protobuf.Any body = 3; }
    message Metadata { string type = 3; map<string, string> headers = 7; string clientIp = 8; }
    message Any      { string type_url = 1; bytes value = 2; }
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

REQUEST = "/Request/request"
STREAM = "/BiRequestStream/requestBiStream"

_LENGTH = 2
"""The wire type of what has a length: text, bytes, messages."""
_SIZES = {1: 8, 5: 4}
"""Bytes of the wire types with a fixed size."""

T = TypeVar("T")


class Answer(msgspec.Struct, rename="camel"):
    """What every answer of the server has. ``result_code`` is 200 if it did what was asked."""

    result_code: int = 200
    error_code: int = 0
    message: str | None = None


class Pushed(msgspec.Struct, rename="camel"):
    """What every request of the server has."""

    request_id: str | None = None


def encode(kind: str, body: bytes, headers: Mapping[str, str], client_ip: str) -> bytes:
    """The bytes of a payload."""
    entries = (_text(1, key) + _text(2, value) for key, value in headers.items())
    metadata = b"".join((_text(3, kind), *(_field(7, entry) for entry in entries), _text(8, client_ip)))
    return _field(2, metadata) + _field(3, _field(2, body))


def decode(payload: bytes) -> tuple[str, memoryview]:
    """The kind and the body of a payload. Raises ValueError for bytes that are none."""
    kind, body = "", memoryview(b"")
    for number, value in _fields(memoryview(payload)):
        if number == 2:
            kind = next((str(text, "utf-8") for inner, text in _fields(value) if inner == 3), "")
        elif number == 3:
            body = next((data for inner, data in _fields(value) if inner == 2), body)
    return kind, body


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, value: bytes) -> bytes:
    return b"".join((_varint(number << 3 | _LENGTH), _varint(len(value)), value))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields that have a length; others are passed over."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            _, position = _read_varint(data, position)
            continue
        if wire_type == _LENGTH:
            size, position = _read_varint(data, position)
        elif wire_type in _SIZES:
            size = _SIZES[wire_type]
        else:
            raise ValueError(f"no payload: the wire type {wire_type}")
        if position + size > len(data):
            raise ValueError("no payload: it ends too early")
        if wire_type == _LENGTH:
            yield number, data[position : position + size]
        position += size


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("no payload: a number has no end")
