"""P2: the instances of a watched service.

Baseline: `dict.get` of a constant key, one call of a built-in method. Ours: `Registry.lookup` of a service that is subscribed to, with its name as
text, at 10 to 10 000 instances, after the listener has read the view once; both stand in the same loop over many calls, in CPU time of the thread. Limit: three times the baseline, and the same at any size.
Peers: `get_members` of tooz (a group of three), which asks the server each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from measuring.content import address
from measuring.peers import tooz_group
from measuring.places import SERVERS, Place
from measuring.report import Cell, of_limit
from measuring.rounds import Side, alternate, batched, figures, inlined, ratio, repeated, used
from sofa_registry_adapters.model.views import InstancesChange

GOAL = "P2"
TITLE = "Lookup"
BACKENDS = ("memory", *SERVERS)
SIZES = (10, 1_000, 10_000)
CALLS = 20_000


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""
    return _against_dict(place, rounds) if place.backend == "memory" else _against_tooz(place, rounds)


def _against_dict(place: Place, rounds: int) -> list[Cell]:
    found = {}
    for size in SIZES:
        with place.registry() as registry:
            registry.publish("echo", [address(number) for number in range(size)])
            with registry.subscribe("echo", read):
                found[size] = alternate(_sides(registry.lookup, {"echo": object()}.get), rounds)
    cells = []
    for size, played in found.items():
        sides = {side: figures(every) for side, every in played.items()}
        times = ratio(played, "ours", "raw")
        cells.append(of_limit("lookup against dict.get", times, "times", 3.0, n=size, sides=sides))
    growth = cells[-1].sides["ours"].p50 / cells[0].sides["ours"].p50
    cells.append(of_limit("lookup, 10 000 instances against 10", round(growth, 2), "times", 1.3, n=SIZES[-1]))
    return cells


def read(change: InstancesChange) -> None:
    """As a listener does: it looks at the instances."""
    change.instances[0]


def _sides(lookup: Callable[[str], object], get: Callable[[str], object]) -> dict[str, Side]:
    statements = {"ours": "lookup('echo')", "raw": "get('echo')"}
    return {side: inlined(text, {"lookup": lookup, "get": get}, CALLS) for side, text in statements.items()}


def _against_tooz(place: Place, rounds: int) -> list[Cell]:
    with place.registry() as registry, tooz_group(place, 3) as get_members:
        registry.publish("echo", [address(number) for number in range(3)])
        with registry.subscribe("echo", read):
            lookup = registry.lookup
            sides = {
                "ours": batched(lambda: lookup("echo"), 2_000, clock=time.perf_counter),
                "tooz": repeated(get_members, 50),
            }
            found = alternate(sides, rounds)
    part = used(found, "ours", lambda number: sorted(found["tooz"][number].wall)[25] / 1000)
    times = ratio(found, "tooz", "ours")
    return [
        Cell(
            "get_members of tooz against lookup",
            times,
            "times as long",
            1000,
            part,
            n=3,
            sides={side: figures(every) for side, every in found.items()},
        )
    ]
