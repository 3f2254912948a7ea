"""P9: threads and open files.

In a new interpreter for each side: what there is when one service is watched, and when a thousand are. Baseline: the raw client with as many of its own watches, all on one connection where its library
can do that. Ours: `Registry.subscribe`; counted half a second after the last listener was called. Limits: one thread more than the raw
client with one watch, and nothing more with a thousand. Peers: one coordinator of tooz in one group, nacos-sdk-python. Threads of the kernel, those of grpc included.
"""

from __future__ import annotations

import contextlib

from measuring import children
from measuring.places import SERVERS, Place
from measuring.report import Cell
from measuring.writer import writer

GOAL = "P9"
TITLE = "Threads and files"
BACKENDS = ("local", *SERVERS, "nacos")


def measure(place: Place, _: int) -> list[Cell]:
    """Counts do not vary from round to round."""
    with contextlib.ExitStack() as stack:
        if place.backend in SERVERS:
            author = stack.enter_context(writer(place))
            for number in range(1_000):
                author.fill(f"few-{number}", 1)
        return _counted(place)


def _counted(place: Place) -> list[Cell]:
    ours = children.run("threads", place, "ours")
    raw = children.run("threads", place, "raw") if place.backend != "nacos" else None
    ratios = {"ours, of Python": float(ours[0]["threads"])}
    cells = []
    if raw is not None:
        ratios |= {"raw": float(raw[0]["native"]), "raw, a thousand": float(raw[1]["native"])}
    if place.backend in SERVERS:
        ratios["tooz"] = float(children.run("tooz_threads", place)["native"])
    if place.backend == "nacos":
        ratios["nacos-sdk-python"] = float(children.run("sdk_threads", place)["native"])
    limit = None if raw is None else float(raw[0]["native"] + 1)
    used = None if limit is None else round(ours[0]["native"] / limit, 2)
    cells.append(Cell("threads with one subscription", ours[0]["native"], "threads", limit, used, n=1, ratios=ratios))
    for kind, unit in (("native", "threads"), ("fds", "files")):
        more = ours[1][kind] - ours[0][kind]
        cells.append(Cell(f"{unit} more with a thousand", more, unit, 0.0, 2.0 if more > 0 else 0.0, n=1_000))
    return cells
