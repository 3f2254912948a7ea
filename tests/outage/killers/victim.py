"""A program that publishes, and then does to itself what its plan says; see `sofa_registry_adapters.testing.provider.Plan`.

It writes ``live`` when it is published. SIGUSR1 tells it to go on from there.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

import msgspec

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.provider import Plan, say, settled

GO = threading.Event()
FED = threading.Event()
STEP = 0.01
SPINNERS = 8


class Ticks:
    """A thread that looks at the clock all the time: its longest pause is how long nothing else could run."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            self.longest, self._last = max(self.longest, now - self._last), now
            time.sleep(STEP)


def stay() -> None:
    """Until killed."""
    while True:
        time.sleep(STEP)


def spin(plan: Plan) -> None:
    """Eight threads compute in pure Python for ``seconds``."""
    with plan.registry() as registry:
        plan.publish(registry)
        say("live")
        GO.wait()
        end = time.monotonic() + plan.seconds
        ticks = Ticks()
        spinners = [threading.Thread(target=_compute, args=(end,)) for _ in range(SPINNERS)]
        for one in spinners:
            one.start()
        for one in spinners:
            one.join()
        say("ends", round(ticks.longest, 3))
        stay()


def _compute(end: float) -> None:
    count = 0
    while time.monotonic() < end:
        count += sum(range(1000))


def _pattern(size: int) -> object:
    """Cubic in the size; the engine of patterns gives nobody else a turn."""
    return re.match(r".*.*.*=", "x" * size)


def _arithmetic(size: int) -> object:
    """Linear in the size; a loop in C over a range."""
    return sum(range(size))


CALLS: dict[str, tuple[Callable[[int], object], int, int]] = {
    "pattern": (_pattern, 3, 300),
    "arithmetic": (_arithmetic, 1, 10**6),
}
"""One call in C: with its growth, and a size to measure it with."""


def freeze(plan: Plan) -> None:
    """One call in C holds the interpreter's lock for ``seconds`` and longer."""
    call, power, size = CALLS[plan.mode]
    registry = plan.registry()
    registration = plan.publish(registry)
    took, begun = 0.0, time.monotonic()
    while took < 0.1:
        size = int(size * 2 ** (1 / power)) + 1
        began = time.monotonic()
        call(size)
        took = time.monotonic() - began
    # Measured small, on a machine that is shared: rather a little too long than too short.
    size = int(size * (1.2 * plan.seconds / took) ** (1 / power))
    say("live", round(time.monotonic() - begun, 2))
    GO.wait()
    ticks = Ticks()
    time.sleep(5 * STEP)
    say("holds")
    began = time.monotonic()
    call(size)
    ended = time.monotonic()
    time.sleep(5 * STEP)
    say("ends", round(ticks.longest, 3), round(ended - began, 3), registration.state)
    stay()


def starve(plan: Plan) -> None:
    """No further file can be opened between SIGUSR1 and SIGUSR2; meanwhile the verbs are tried."""
    registry = plan.registry()
    registration = plan.publish(registry)
    say("live")
    GO.wait()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208  names are numbers
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, before[1]))
    taken: list[int] = []
    say("starved", _take_all(taken).strerror)
    # Whatever closes a file gives somebody else the chance to take its number: somebody else does.
    taking = threading.Thread(target=_take_on, args=(taken,))
    taking.start()
    tried = _try_verbs(registry)
    taking.join()
    for one in taken:
        os.close(one)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    say("fed", msgspec.json.encode(tried).decode())
    while registration.state != "live":
        time.sleep(STEP)
    say("live again")
    stay()


def _take_all(taken: list[int]) -> OSError:
    """Open files until the system says no; what it says."""
    while True:
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return error


def _take_on(taken: list[int]) -> None:
    while not FED.wait(0.001):
        _take_all(taken)


class Tried(msgspec.Struct):
    """What became of the verbs: how many, the slowest in seconds, the errors, and the share of a processor that went by."""

    count: int = 0
    slowest: float = 0.0
    errors: dict[str, int] = {}
    escaped: list[str] = []
    share: float = 0.0


def _try_verbs(registry: Registry) -> Tried:
    tried = Tried(errors={}, escaped=[])
    began, worked = time.monotonic(), time.process_time()
    while not FED.wait(0.2):
        asked = time.monotonic()
        try:
            registry.lookup(f"unwatched-{tried.count}", timeout=1.0)
        except RegistryError as error:
            name = type(error).__name__
            tried.errors[name] = tried.errors.get(name, 0) + 1
        except Exception as error:  # noqa: BLE001  that is what is looked for
            tried.escaped.append(repr(error))
        tried.count += 1
        tried.slowest = max(tried.slowest, time.monotonic() - asked)
    tried.share = (time.process_time() - worked) / (time.monotonic() - began)
    return tried


def crowd(plan: Plan) -> None:
    """Keep nothing open until it is told to; then publish, and say how long that took."""
    with plan.registry() as first:
        # The client library is imported with the first call, which takes longer than all the rest.
        first.lookup(plan.service, timeout=20.0)
    registry = plan.registry()
    say("stands by")
    GO.wait()
    began = time.monotonic()
    plan.publish(registry)
    say("live", round(time.monotonic() - began, 3))
    stay()


KEPT: list[Registry] = []
"""What a worker of a pool has opened: as long as the worker lives."""


def _enter(plan: Plan) -> None:
    registry = plan.registry()
    try:
        registry.publish(plan.service, f"10.3.{os.getpid() >> 8 & 255}.{os.getpid() & 255}:1", timeout=20.0)
    except RegistryError as error:
        KEPT.clear()
        say("worker refused", type(error).__name__)
        return
    KEPT.append(registry)


def _look(plan: Plan) -> str:
    if not KEPT:
        return "refused"
    settled(KEPT[0])
    return "sees" if plan.address in {one.instance_id for one in KEPT[0].lookup(plan.service)} else "does not see"


def _workers(registry: Registry, plan: Plan) -> int:
    """How many of the workers' addresses the registry has."""
    settled(registry)
    return sum(one.instance_id.startswith("10.3.") for one in registry.lookup(plan.service))


def pools(plan: Plan) -> None:
    """A pool of two workers by each start method; each publishes an address of its own and looks for its parent's."""
    registry = plan.registry()
    registration = plan.publish(registry)
    say("live")
    for method in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(method).Pool(2, _enter, (plan,)) as pool:
            answers = set(pool.map_async(_look, [plan] * 4, 1).get(40))
            # One of them may have answered all, while the other one was still starting.
            deadline = time.monotonic() + 20.0
            while (there := _workers(registry, plan)) < 2 and answers == {"sees"} and time.monotonic() < deadline:
                time.sleep(STEP)
            pool.close()
            pool.join()
        say(method, ",".join(sorted(answers)), there, _workers(registry, plan), registration.state)
    stay()


MODES: dict[str, Callable[[Plan], None]] = {
    "spin": spin,
    "pattern": freeze,
    "arithmetic": freeze,
    "starve": starve,
    "crowd": crowd,
    "pools": pools,
}


def main() -> None:
    """Do what the plan says."""
    signal.signal(signal.SIGUSR1, lambda *_: GO.set())
    signal.signal(signal.SIGUSR2, lambda *_: FED.set())
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    MODES[plan.mode](plan)


if __name__ == "__main__":
    main()
