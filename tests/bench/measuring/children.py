"""Measuring in a new interpreter, where nothing else has left threads, files or memory: the programs, and how to run one.

A program gets the place as JSON and prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measuring.content import address, metadata
from measuring.places import Place
from measuring.raw.client import raw_client

FOLDER = Path(__file__).resolve().parent.parent
LEASE = 10.0
"""Seconds: the default lease of the products that have one."""


def command(program: str, place: Place, *more: object) -> list[str]:
    """The command line of a program of this module."""
    where = {"backend": place.backend, "url": place.url, "folder": str(place.folder)}
    if place.service is not None:
        where |= {"host": place.service.host, "port": place.service.port}
    start = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); from measuring import children; children.main()"
    return [sys.executable, "-c", start, program, json.dumps(where), json.dumps(more)]


def environment() -> dict[str, str]:
    """That of a new interpreter, as users have it: what it imports was compiled by one before it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(program: str, place: Place, *more: object) -> Any:
    """What the program says."""
    done = subprocess.run(
        command(program, place, *more), check=True, capture_output=True, text=True, timeout=120, env=environment()
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """In the new interpreter."""
    program, where, more = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    service = SimpleNamespace(host=where.get("host"), port=where.get("port"))
    place = Place(where["backend"], where["url"], Path(where["folder"]), service)
    found = PROGRAMS[program](place, *more)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    # Clients of some peers do not end.
    os._exit(0)


def counts() -> dict[str, int]:
    """Threads and open files of this process."""
    gc.collect()
    return {"threads": threading.active_count(), "native": _entries("task"), "fds": _entries("fd")}


def _entries(folder: str) -> int:
    return sum(1 for _ in Path("/proc/self", folder).iterdir())


def settle() -> dict[str, int]:
    """`counts`, when they stay the same for half a second: pools of listeners end their threads by then."""
    found, same = counts(), 0
    while same < 5:
        time.sleep(0.1)
        now = counts()
        same = same + 1 if now == found else 0
        found = now
    return found


@contextlib.contextmanager
def watching(side: str, place: Place) -> Iterator[Any]:
    """How to watch services by this side."""
    if side == "ours":
        with place.registry() as registry:

            def subscribe(services: list[str]) -> None:
                for service in services:
                    registry.subscribe(service, lambda _: None)

            yield subscribe
    else:
        with raw_client(place) as raw:
            yield lambda services: raw.watch_many(services, lambda: None)


def threads(place: Place, side: str) -> list[dict[str, int]]:
    """Threads and files with one subscription, and with a thousand."""
    found = []
    with watching(side, place) as watch:
        watch(["few-0"])
        found.append(settle())
        watch([f"few-{number}" for number in range(1, 1_000)])
        found.append(settle())
    return found


def tooz_threads(place: Place) -> dict[str, int]:
    """Those of one coordinator in a group."""
    from measuring.peers import tooz_group

    with tooz_group(place, 1) as members:
        members()
        return settle()


def sdk_threads(place: Place) -> dict[str, int]:
    """Those of nacos-sdk-python."""
    from measuring.peers import sdk

    with sdk(place) as client:
        client.register(1)
        return settle()


def subscribing(place: Place, side: str, count: int) -> float:
    """Seconds to subscribe to so many services, one after the other."""
    with watching(side, place) as watch:
        watch(["other"])
        start = time.perf_counter()
        watch([f"many-{number}" for number in range(count)])
        return time.perf_counter() - start


def subscription_bytes(place: Place, count: int) -> float:
    """Bytes that Python allocates for a subscription to a service without instances."""
    with watching("ours", place) as watch:
        watch([f"none-{number}" for number in range(20)])
        gc.collect()
        tracemalloc.start()
        watch([f"empty-{number}" for number in range(count)])
        time.sleep(0.5)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / count


def idle(place: Place, count: int, seconds: float) -> float:
    """The share of a core that so many subscriptions take while nothing happens."""
    with watching("ours", place) as watch:
        watch([f"many-{number}" for number in range(count)])
        time.sleep(1)
        cpu, start = time.process_time(), time.perf_counter()
        time.sleep(seconds)
        return (time.process_time() - cpu) / (time.perf_counter() - start)


def holding(place: Place, side: str, count: int, seconds: float) -> float:
    """The share of a core that it takes to keep instances alive and watch their service."""
    service = f"held-{side}"
    if side == "ours":
        with place.registry() as registry:
            registry.publish(service, [address(number) for number in range(count)], metadata=metadata(1), timeout=30)
            registry.subscribe(service, lambda _: None)
            return _share(seconds)
    with raw_client(place) as raw:
        raw.write_all([raw.prepared(number) for number in range(count)])
        raw.watch(service, lambda: None)
        ended = threading.Event()
        threading.Thread(target=raw.keep, args=(LEASE / 3, ended), daemon=True).start()
        share = _share(seconds)
        ended.set()
        return share


def _share(seconds: float) -> float:
    time.sleep(1)
    cpu, start = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    return (time.process_time() - cpu) / (time.perf_counter() - start)


def provider(place: Place, service: str, number: int, options: dict[str, str]) -> None:
    """Publish one instance, and stay until killed."""
    with place.registry(**options) as registry:
        registry.publish(service, address(number))
        sys.stdout.write("published\n")
        sys.stdout.flush()
        time.sleep(300)


PROGRAMS = {
    "threads": threads,
    "tooz_threads": tooz_threads,
    "sdk_threads": sdk_threads,
    "subscribing": subscribing,
    "subscription_bytes": subscription_bytes,
    "idle": idle,
    "holding": holding,
    "provider": provider,
}
