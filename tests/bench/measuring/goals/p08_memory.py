"""P8: the memory of an instance in a view.

Measured with tracemalloc over 10 000 instances, as they are made from records or, for the peers, from an answer. Baseline: a tuple of host and port, the host's text
included. Ours: instances decoded by the native layout, whose owner and start are equal as those of one publisher are: without metadata, and with two keys
whose values are each its own. Peer: the model of nacos-sdk-python with two keys. *View* is what one more view adds when nothing else changed.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec

from measuring.content import STARTED, address, instance
from measuring.report import Cell, of_limit
from measuring.rounds import Figures
from sofa_registry_adapters.layouts.native import decode_instance, encode_instance
from sofa_registry_adapters.model.instance import Instance, check_metadata
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Source

GOAL = "P8"
TITLE = "Memory"
BACKENDS = ("",)
SIZE = 10_000


def measure(_: object, __: int) -> list[Cell]:
    """All cells; bytes do not vary from round to round."""
    pairs = _bytes(_tuples)
    plain, own = _bytes(lambda: _decoded(_plain)), _bytes(lambda: _decoded(_own_metadata))
    equal = _bytes(lambda: _decoded(instance))
    cells = [
        of_limit(
            "without metadata, against a tuple", _ratio(plain, pairs), "times", 3.0, n=SIZE, sides=_sides(plain, pairs)
        ),
        of_limit(
            "two keys of its own, against a tuple", _ratio(own, pairs), "times", 5.0, n=SIZE, sides=_sides(own, pairs)
        ),
        Cell(
            "two keys as others have them, against a tuple",
            _ratio(equal, pairs),
            "times",
            n=SIZE,
            sides=_sides(equal, pairs),
        ),
        of_limit("one more view", _view(), "bytes an instance", 8.1, n=SIZE),
    ]
    try:
        model = _bytes(_models)
    except ImportError:
        return cells
    sides = {**_sides(own, pairs), "nacos-sdk-python": Figures(0, 0, bytes=model)}
    cells.append(
        of_limit("against the model of nacos-sdk-python", _ratio(own, model), "times", 0.5, n=SIZE, sides=sides)
    )
    return cells


def _ratio(one: float, other: float) -> float:
    return round(one / other, 2)


def _sides(ours: float, raw: float) -> dict[str, Figures]:
    return {"ours": Figures(0, 0, bytes=ours), "raw": Figures(0, 0, bytes=raw)}


def _bytes(make: Callable[[], Any]) -> float:
    """Bytes an instance, of what ``make`` keeps, without the list that it is in."""
    make()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = make()
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return round((used - 8 * len(kept)) / SIZE, 1)


def _tuples() -> list[object]:
    made: list[object] = []
    for number in range(SIZE):
        host, _, port = address(number).partition(":")
        made.append((host, int(port)))
    return made


def _plain(number: int) -> Instance:
    return msgspec.structs.replace(Instance.of(address(number)), started=STARTED, owner="8f3a2b19c4d5e6f7")


def _own_metadata(number: int) -> Instance:
    own = check_metadata({"version": f"1.4.{number}", "commit": f"{number:016x}"})
    return msgspec.structs.replace(_plain(number), metadata=own)


def _decoded(make: Callable[[int], Instance]) -> list[Instance]:
    made = []
    for number in range(SIZE):
        value = encode_instance(make(number))
        made.append(decode_instance(value))
    return made


def _models() -> list[object]:
    from v2.nacos.naming.model.instance import Instance as Model

    return [
        Model(
            ip=address(number).partition(":")[0],
            port=12200,
            serviceName="echo",
            metadata={"version": f"1.4.{number}", "commit": f"{number:016x}"},
        )
        for number in range(SIZE)
    ]


def _view() -> float:
    source = Source(ServiceKey("echo"))
    source.instances = {one.instance_id: one for one in map(instance, range(SIZE))}
    views: list[Any] = []
    with source.locked():
        pass
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    views.append(source.view())
    views[0].settle()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return round(used / SIZE, 2)
