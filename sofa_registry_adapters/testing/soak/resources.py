"""What a run costs: threads, files and memory of this process, and what the server holds for it. None of it may grow."""

from __future__ import annotations

import gc
import os
import statistics
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from sofa_registry_adapters.testing.soak.judging import Judge

WARM = 3
"""Samples at the beginning that say nothing yet."""
ENOUGH = 9
"""Samples without which there is no trend."""
SPARE: Mapping[str, float] = {"threads": 5, "files": 8, "memory": 16.0}
"""By how much the end of a run may differ from its beginning; of what the server counts, by `SPARE_THERE`."""
SPARE_THERE = 16
INSTANCES = "instances"
THERE = "server: "
BY_INSTANCE: Mapping[str, int] = {"records": 1, "watches": 2}
"""What a server counts that goes with the number of instances, and how many at most for each: owners may watch their records."""
LONG = 300.0
"""Seconds without which the memory says nothing: allocators take their time."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MB = 1_000_000.0


class Trend(msgspec.Struct, frozen=True):
    """One figure: the median of the first third of the run, and of the last."""

    first: float
    last: float


class Resources:
    """Takes a sample at each quiescence, where the same things are open each time."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts
        self._samples: list[dict[str, float]] = []

    def sample(self, children: int, links: int, instances: int) -> dict[str, float]:
        """The figures now, without what is meant to be there.

        Each child costs this process two threads and the file of its output, each link of a line two files.
        """
        gc.collect()
        counts = dict(self._counts())
        found = {
            "threads": threading.active_count() - 2.0 * children,
            "files": _open_files() - 1.0 * children - 2.0 * links,
            "memory": round(_resident() / _MB, 2),
            INSTANCES: float(instances),
            **{f"{THERE}{name}": float(count) for name, count in counts.items()},
        }
        self._samples.append(found)
        return found

    def trends(self) -> dict[str, Trend]:
        """All figures over the run."""
        samples = self._samples[WARM:]
        third = max(1, len(samples) // 3)
        if len(samples) < ENOUGH:
            return {}
        return {name: _trend([one[name] for one in samples if name in one], third) for name in samples[-1]}

    def judge(self, judge: Judge, seconds: float) -> None:
        """Say what grew."""
        trends = self.trends()
        for name, trend in trends.items():
            if name == INSTANCES or (name == "memory" and seconds < LONG):
                continue
            more = max(0.0, trends[INSTANCES].last - trends[INSTANCES].first)
            spare = SPARE.get(name, SPARE_THERE) + more * BY_INSTANCE.get(name.removeprefix(THERE), 0)
            text = f"{name} grew from {trend.first:g} to {trend.last:g}"
            judge.expect("I9", text, holds=trend.last - trend.first <= spare)


def _trend(figures: Sequence[float], third: int) -> Trend:
    return Trend(round(statistics.median(figures[:third]), 2), round(statistics.median(figures[-third:]), 2))


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list((folder if folder.exists() else Path("/dev/fd")).iterdir()))


def _resident() -> int:
    """Bytes of memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
