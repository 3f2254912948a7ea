"""The picture of the page: latency against the number of instances, the storm, and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from measuring import report
from measuring.report import Cell

PICTURE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "performance.svg"
COLORS = {"redis": "#c0392b", "zookeeper": "#27ae60", "etcd": "#2471a3", "nacos": "#8e44ad"}


def draw(path: Path = PICTURE) -> None:
    """Make the picture from the results. The same results give the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "sofa", "font.size": 8, "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    cells = {(one.goal, one.backend): one.cells for one in report.read()}
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    _latency(left, cells)
    _storm(middle, cells)
    _memory(right, cells)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def _latency(axes: Any, cells: dict[tuple[str, str], list[Cell]]) -> None:
    for backend, color in COLORS.items():
        found = [one for one in cells.get(("P5", backend), ()) if {"ours", "raw"} <= one.sides.keys()]
        sizes = [one.n for one in found]
        for side, style in (("ours", "-o"), ("raw", "--x")):
            label = f"{backend}, {side}"
            axes.plot(
                sizes, [one.sides[side].p50 / 1e3 for one in found], style, color=color, label=label, markersize=3
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="instances of the service",
        ylabel="ms, p50",
        title="A change to the listener",
    )
    axes.legend(fontsize=6, ncols=2, loc="upper left")


def _storm(axes: Any, cells: dict[tuple[str, str], list[Cell]]) -> None:
    names = [backend for backend in COLORS if ("P7", backend) in cells]
    for place, (side, color) in enumerate((("ours", "#2471a3"), ("raw", "#aab7b8"), ("one by one", "#d5dbdb"))):
        speeds = [1e6 / cells["P7", backend][0].sides[side].p50 for backend in names]
        axes.bar([x + place * 0.27 for x in range(len(names))], speeds, 0.25, color=color, label=side)
    labels = []
    for backend in names:
        storm = next((one for one in cells["P7", backend] if one.unit == "s"), None)
        labels.append(f"{backend}\n{storm.figure:g} s" if storm is not None else backend)
    axes.set_xticks([x + 0.27 for x in range(len(names))], labels)
    axes.set(yscale="log", ylabel="instances a second", title="10 000 register again; below: server up to all there")
    axes.legend(fontsize=6)


def _memory(axes: Any, cells: dict[tuple[str, str], list[Cell]]) -> None:
    bars: dict[str, float] = {}
    for one in cells.get(("P8", ""), ()):
        for side, found in one.sides.items():
            if found.bytes:
                bars[one.what.partition(",")[0] if side == "ours" else side] = found.bytes
    names = {"raw": "tuple of host and port", "against the model of nacos-sdk-python": ""}
    shown = {names.get(name, name): value for name, value in bars.items() if names.get(name, name)}
    axes.barh(
        list(shown),
        list(shown.values()),
        color=["#2471a3" if "key" in one or "without" in one else "#aab7b8" for one in shown],
    )
    axes.invert_yaxis()
    axes.set(xlabel="bytes an instance", title="Memory")
