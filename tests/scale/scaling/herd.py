"""A thousand clients of one server, in a few processes: how many operations it gets when all recover at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from pathlib import Path

from scaling.counting import BUCKET, CountingProxy
from scaling.table import Herd
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.handles import AsyncRegistration
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import AsyncRegistry
from sofa_registry_adapters.testing.faults import PythonProcess, python_process
from sofa_registry_adapters.testing.services import Service

PROCESSES = 4
EACH = 10
"""Clients that publish one service, and as many that consume it."""
AWAY = 4.0
STARTING = 300.0
RECOVERING = 180.0
AT_ONCE = 25
"""Clients of one process that start together: they are to be there, and how fast is not the question."""
STEADY = 5.0
REFUSING = frozenset({"etcd"})
"""Where the line refuses connections while the server is away, as the server's own machine would: grpc tries half a dozen times at once where somebody takes a
connection and resets it. Attempts are not counted then."""
PATH = {"PYTHONPATH": str(Path(__file__).parent.parent)}


class Client:
    """One process's worth: a connection, a registration, a subscription."""

    def __init__(self, number: int, clients: int, url: str, namespace: str) -> None:
        services = max(1, clients // EACH)
        self.own, self.other = (ServiceKey(f"herd.S{(number + step) % services}") for step in (0, 1))
        self.address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:1"
        self.registry = AsyncRegistry(url, options={"snapshot": "off", "namespace": namespace})
        self.registration: AsyncRegistration | None = None

    async def start(self) -> None:
        """Publish and subscribe."""
        while True:
            try:
                if self.registration is None:
                    self.registration = await self.registry.publish(self.own, self.address, timeout=60.0)
                await self.registry.subscribe(self.other, lambda _: None, timeout=60.0)
            except RegistryError:
                continue
            return

    async def state(self) -> str:
        """What is not as it should be: its registration is live, its view is complete and can be trusted."""
        assert self.registration is not None
        try:
            view = await self.registry.lookup(self.other, timeout=5.0)
        except RegistryError as error:
            return f"{type(error).__name__}: {error}"
        if self.registration.state != "live":
            return f"{self.registration.state}: {self.registration.last_error}"
        return "stale" if view.stale else "" if len(view) == EACH else f"{len(view)} seen"


async def work(given: dict[str, object]) -> None:
    """A process of clients: starts them, then says each second how many of them are whole."""
    first, count, clients = (int(str(given[name])) for name in ("first", "count", "clients"))
    herd = [Client(first + n, clients, str(given["url"]), str(given["namespace"])) for n in range(count)]
    gate = asyncio.Semaphore(AT_ONCE)

    async def start(one: Client) -> None:
        async with gate:
            await one.start()

    await asyncio.gather(*(start(one) for one in herd))
    while True:
        states = [await one.state() for one in herd]
        ill = next((one for one in states if one), "")
        sys.stdout.write(f"whole {states.count('')} {ill}\n")
        sys.stdout.flush()
        await asyncio.sleep(0.5)


def _whole(process: PythonProcess) -> int:
    lines = [line for line in process.output.splitlines() if line.startswith("whole")]
    return int(lines[-1].split()[1]) if lines else 0


def _until_whole(processes: list[PythonProcess], clients: int, within: float) -> None:
    deadline = time.monotonic() + within
    while (found := sum(map(_whole, processes))) < clients:
        if time.monotonic() > deadline:
            last = "\n".join(one.output.splitlines()[-1] for one in processes)
            raise SystemExit(f"{found} of {clients} clients are whole after {within:g} s:\n{last}")
        for one in processes:
            if not one.alive:
                raise SystemExit(one.output)
        time.sleep(0.2)


def peak(slices: Counter[int], first: int) -> int:
    """Most messages in any second since the slice ``first``."""
    width = round(1 / BUCKET)
    late = {place: count for place, count in slices.items() if place >= first}
    return max((sum(late.get(place + step, 0) for step in range(width)) for place in late), default=0)


def stampede(name: str, service: Service, clients: int) -> Herd:
    """Start the clients, restart the server, and count until everything is as it was."""
    line = CountingProxy(name, service.address, offsets=service.product.offsets)
    with contextlib.ExitStack() as closing:
        closing.callback(line.close)
        processes = [
            closing.enter_context(
                python_process(["-m", "scaling.herd", json.dumps(_plan(service, line, clients, place))], PATH)
            )
            for place in range(PROCESSES)
        ]
        _until_whole(processes, clients, STARTING)
        loaded = peak(line.slices, 0)
        quiet = line.up
        time.sleep(STEADY)
        idle = (line.up - quiet) / STEADY
        service.kill()
        if name in REFUSING:
            line.refuse()
        accepted = line.accepted
        time.sleep(AWAY)
        attempts, before = (line.accepted - accepted) / clients / AWAY, line.up
        service.start()
        line.pass_through()
        began, first, accepted = time.monotonic(), _slice(line), line.accepted
        time.sleep(2.0)
        _until_whole(processes, clients, RECOVERING)
        seconds = time.monotonic() - began
        return Herd(
            clients=clients,
            registrations=1,
            subscriptions=1,
            kept=getattr(service, "_persistent", False),
            away=AWAY,
            attempts=round(attempts, 2),
            connections=line.accepted - accepted,
            idle=round(idle, 1),
            operations=max(0, round(line.up - before - idle * seconds)),
            peak=peak(line.slices, first),
            seconds=round(seconds, 1),
            loaded=loaded,
        )


def _slice(line: CountingProxy) -> int:
    return int(line._loop.time() / BUCKET)


def _plan(service: Service, line: CountingProxy, clients: int, place: int) -> dict[str, object]:
    count = clients // PROCESSES
    return {
        "url": service.url_through(line),
        "namespace": "herd",
        "first": place * count,
        "count": count,
        "clients": clients,
    }


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
