"""P14: how fast a consumer knows that a provider is gone.

*Killed*: a provider in a process of its own, with a lease of two seconds, is killed with SIGKILL; until it is out of a consumer's view. Limit: 1.15 leases and a
second. Three others of the service stay, so that nothing is held back for protection. *Withdrawn*: from `unpublish` to the listener that no
longer has it: the record is marked before it is deleted. Limit: 100 ms. The time of the lease is the product's, so a raw client takes as long: there is no other side.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import threading
import time
import uuid

from measuring import children
from measuring.content import address
from measuring.places import Place
from measuring.report import Cell, of_limit
from measuring.rounds import Figures, rounded

GOAL = "P14"
TITLE = "Detection"
BACKENDS = ("local", "redis", "zookeeper", "etcd")
LEASE = 2.0
OPTIONS = {"zookeeper": {"session_timeout": "2s"}, "etcd": {"lease": "2s"}, "redis": {"lease": "2s"}, "local": {}}


class Look:
    """Waits until an instance is, or is not, in the view."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ids: dict[str, float] = {}
        self._moment = 0.0

    def told(self, change: object) -> None:
        """The listener."""
        with self._changed:
            self._moment = time.monotonic()
            self._ids = dict.fromkeys(one.instance_id for one in change.instances)  # type: ignore[attr-defined]
            self._changed.notify_all()

    def until(self, name: str, *, there: bool) -> float:
        """When that was told."""
        with self._changed:
            assert self._changed.wait_for(lambda: (name in self._ids) is there, 30), f"{name} is not {there}"
            return self._moment


def measure(place: Place, rounds: int) -> list[Cell]:
    """The cells of one backend."""
    service, options = f"echo-{uuid.uuid4().hex[:6]}", OPTIONS[place.backend]
    look, left = Look(), []
    with place.registry() as consumer, place.registry(**options) as others:
        others.publish(service, [address(number) for number in range(3)])
        consumer.subscribe(service, look.told)
        killed = [_kill(place, service, number, options, look) for number in range(10, 10 + min(rounds, 5))]
        for number in range(30, 30 + rounds * 3):
            one = others.publish(service, address(number))
            look.until(address(number), there=True)
            start = time.monotonic()
            one.unpublish()
            left.append(look.until(address(number), there=False) - start)
    limit = 1.15 * LEASE + 1
    seconds, late = rounded(statistics.median(killed)), rounded(statistics.median(left) * 1e3)
    return [
        of_limit("killed to out of view", seconds, "s", limit, sides={"ours": _figures(killed)}),
        of_limit("withdrawn to out of view", late, "ms", 100.0, sides={"ours": _figures(left)}),
    ]


def _kill(place: Place, service: str, number: int, options: dict[str, str], look: Look) -> float:
    command = children.command("provider", place, service, number, options)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        look.until(address(number), there=True)
        time.sleep(0.5)
        start = time.monotonic()
        os.kill(child.pid, signal.SIGKILL)
        return look.until(address(number), there=False) - start
    finally:
        child.kill()
        child.wait()


def _figures(times: list[float]) -> Figures:
    return Figures(rounded(statistics.median(times) * 1e6), rounded(max(times) * 1e6), samples=len(times))
