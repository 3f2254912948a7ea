"""What measures scale counts rightly, and what was measured keeps I13."""

from __future__ import annotations

from collections import Counter

import pytest
from scaling.counting import Http2, Jute, Reader, Resp
from scaling.herd import peak
from scaling.page import slopes, tables
from scaling.table import BACKENDS, Change, Scale, Traffic, read

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    ("reader", "text", "count"),
    (
        (Resp, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n+OK\r\n$-1\r\n*-1\r\n:1\r\n*1\r\n$5\r\nhello\r\n", 6),
        (Jute, b"\0\0\0\2ab\0\0\0\0\0\0\0\1x", 3),
        # Settings, two frames with data of which one is empty.
        (Http2, PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\2\0\0\0\0\0\1ab" + b"\0\0\0\0\1\0\0\0\1", 1),
    ),
)
def test_messages_are_counted_however_they_are_cut(reader: type[Reader], text: bytes, count: int) -> None:
    for size in range(1, len(text) + 1):
        one = reader()
        assert sum(one.feed(text[place : place + size]) for place in range(0, len(text), size)) == count


def test_the_peak_is_that_of_any_second() -> None:
    assert peak(Counter({0: 9, 5: 4, 14: 5, 30: 7}), 0) == 13
    assert peak(Counter({0: 9, 5: 4, 14: 5, 30: 7}), 5) == 9


def test_the_slopes() -> None:
    changes = [
        Change(
            instances=instances,
            consumers=consumers,
            changes=1,
            publisher=Traffic(),
            consumer=Traffic(bytes_down=50 + 2 * instances),
            processor=30 + 7 * consumers,
        )
        for instances, consumers in ((10, 4), (100, 4), (1000, 4), (100, 64))
    ]
    found = slopes(Scale(backend="x", changes=changes))
    assert (round(found.fixed), round(found.each, 3), round(found.processor, 3)) == (50, 2, 7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_i13_was_held(backend: str) -> None:
    herds = read(backend).herds
    assert herds
    for one in herds:
        assert one.clients == 1_000
        assert one.rush <= one.bound


def test_every_table_has_every_product() -> None:
    for name, text in tables().items():
        assert all(f"`{backend}`" in text for backend in BACKENDS), name
