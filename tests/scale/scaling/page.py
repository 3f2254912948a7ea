"""The tables of docs/explanation/scale.md, from what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from scaling.table import BACKENDS, Change, Scale, read

PUBLISHERS, SUBSCRIBERS, SERVICES = 10_000_000, 40_000_000, 23_000
"""What is published of SOFARegistry: the sizes, and from an earlier year the services of one site."""
RELEASE = 3_600.0
"""Seconds in which every publisher changes once."""
PROCESSES = 1_000_000
CONSUMERS_OF_ONE = 4


class Slopes(msgspec.Struct, frozen=True):
    """Bytes of a change for one consumer: so many, and so many more for each instance of the service; and the first list."""

    fixed: float
    each: float
    first_fixed: float
    first_each: float
    processor: float


def slopes(scale: Scale) -> Slopes:
    """Least squares over the sizes that were measured."""
    by_size = [one for one in scale.changes if one.consumers == CONSUMERS_OF_ONE]
    fixed, each = _line([(one.instances, one.consumer.bytes_down) for one in by_size])
    first_fixed, first_each = _line([(one.instances, one.consumer.bytes_down) for one in scale.firsts])
    by_consumers = [one for one in scale.changes if one.instances == 100]
    _, processor = _line([(one.consumers, one.processor) for one in by_consumers])
    return Slopes(max(0.0, fixed), max(0.0, each), max(0.0, first_fixed), first_each, max(0.0, processor))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where the line through the points begins, and how steep it is."""
    if not points:
        return 0.0, 0.0
    middle = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    wide = sum((x - middle[0]) ** 2 for x, _ in points)
    steep = sum((x - middle[0]) * (y - middle[1]) for x, y in points) / wide if wide else 0.0
    return middle[1] - steep * middle[0], steep


def tables() -> Mapping[str, str]:
    """Every table by name."""
    found = [one for one in map(read, BACKENDS) if one.changes]
    return {
        "played": _played(found),
        "changes": _changes(found),
        "processor": _processor(found),
        "others": _others(found),
        "herds": _herds(found),
        "size": _size(found),
    }


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [titles, ["---"] * len(titles), *rows])


def _played(found: Sequence[Scale]) -> str:
    return "".join(f"- `{one.backend}`: {one.versions}; {one.machine}; {one.date}\n" for one in found)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _amount(value: float) -> str:
    for size, word in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {word}"
    return _number(value)


def _of(scale: Scale, instances: int, consumers: int) -> Change | None:
    return next((one for one in scale.changes if (one.instances, one.consumers) == (instances, consumers)), None)


def _changes(found: Sequence[Scale]) -> str:
    def row(scale: Scale) -> Sequence[str]:
        line, cells = slopes(scale), []
        for instances in (10, 100, 1_000):
            one = _of(scale, instances, CONSUMERS_OF_ONE)
            cells.append(
                "" if one is None else f"{_number(one.consumer.messages_down)}, {_number(one.consumer.bytes_down)}"
            )
        some = _of(scale, 100, CONSUMERS_OF_ONE)
        up = "" if some is None else f"{_number(some.publisher.messages_up)}, {_number(some.publisher.bytes_up)}"
        asked = "" if some is None else f"{_number(some.consumer.messages_up)}, {_number(some.consumer.bytes_up)}"
        return (f"`{scale.backend}`", up, *cells, asked, f"{_number(line.fixed)} + {_number(line.each)} N")

    titles = (
        "",
        "publisher sends",
        "each consumer gets, N = 10",
        "N = 100",
        "N = 1 000",
        "and sends",
        "bytes to a consumer",
    )
    return _table(titles, map(row, found))


def _processor(found: Sequence[Scale]) -> str:
    counts = sorted({one.consumers for scale in found for one in scale.changes if one.instances == 100})

    def row(scale: Scale) -> Sequence[str]:
        cells = (_of(scale, 100, count) for count in counts)
        each = slopes(scale).processor
        return (
            f"`{scale.backend}`",
            *("" if one is None else _number(one.processor) for one in cells),
            _number(each),
            _amount(1e6 / each) if each else "",
        )

    titles = (
        "",
        *(f"C = {count}" for count in counts),
        "each consumer more",
        "consumers told in a second by one processor",
    )
    return _table(titles, map(row, found))


def _others(found: Sequence[Scale]) -> str:
    def row(scale: Scale) -> Sequence[str]:
        line, publisher, consumer = slopes(scale), scale.idle_publisher, scale.idle_consumer
        return (
            f"`{scale.backend}`",
            f"{_number(publisher.messages_up)}, {_number(publisher.bytes_up + publisher.bytes_down)}",
            f"{_number(consumer.messages_up)}, {_number(consumer.bytes_up + consumer.bytes_down)}",
            f"{_number(line.first_fixed)} + {_number(line.first_each)} N",
            _number(scale.stored) if scale.stored else "not told",
        )

    titles = (
        "",
        "idle publisher, a second",
        "idle consumer, a second",
        "first list, bytes",
        "store, bytes an instance",
    )
    return _table(titles, map(row, found))


def _herds(found: Sequence[Scale]) -> str:
    def rows() -> Iterable[Sequence[str]]:
        for scale in found:
            for one in scale.herds:
                wanted = one.clients * (one.registrations + one.subscriptions)
                yield (
                    f"`{scale.backend}`",
                    "kept" if one.kept else "lost",
                    _number(one.clients),
                    _number(one.attempts) if one.attempts else "not counted",
                    _number(one.connections),
                    _number(one.idle),
                    _number(one.operations),
                    f"{one.operations / wanted:.1f}",
                    f"{_number(one.rush)} ≤ {_number(one.bound)}"
                    if one.rush <= one.bound
                    else f"**{_number(one.rush)} > {_number(one.bound)}**",
                )

    titles = (
        "",
        "data",
        "clients",
        "attempts, a client and second",
        "connections",
        "idle, a second",
        "operations to recover",
        "for each that is wanted",
        "busiest second beyond idling, bound",
    )
    return _table(titles, rows())


def _size(found: Sequence[Scale]) -> str:
    instances, consumers = PUBLISHERS / SERVICES, SUBSCRIBERS / SERVICES
    told = PUBLISHERS / RELEASE * consumers

    def row(scale: Scale) -> Sequence[str]:
        line = slopes(scale)
        each = line.fixed + line.each * instances
        idle = scale.idle_publisher.messages_up
        return (
            f"`{scale.backend}`",
            f"{_amount(each * consumers)}B",
            f"{_amount(told * each * 8)}bit/s",
            _number(told * line.processor / 1e6),
            f"{_amount(PROCESSES * idle)}/s",
            f"{_amount(PUBLISHERS * scale.stored)}B" if scale.stored else "not told",
        )

    titles = (
        "",
        "one change in an average service",
        "everybody changes within an hour",
        "processors for that",
        "heartbeats",
        "store",
    )
    return _table(titles, map(row, found))
