"""Somebody else, in a process of its own, who writes and deletes records: the cause of what consumers notice.

It uses our store without the engine, because what it writes has to be what consumers of ours read; whose consumer is measured makes no
difference to it. A command is a line of JSON on standard input, the answer one on standard output, with the moment on the machine's
monotonic clock at which the write was sent, which is the same clock in all processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring.content import record
from measuring.places import Place

FOLDER = Path(__file__).resolve().parent.parent


class Writer:
    """The writer as the measuring process sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def fill(self, service: str, count: int) -> None:
        """Write the instances 0 to ``count`` - 1."""
        self._ask("fill", service, count)

    def put(self, service: str, number: int) -> float:
        """Write one instance; when that was sent."""
        return self._ask("put", service, number)

    def drop(self, service: str, number: int) -> float:
        """Delete one."""
        return self._ask("drop", service, number)

    def _ask(self, *command: object) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            message = "the writer ended"
            raise RuntimeError(message)
        return float(json.loads(line))


@contextlib.contextmanager
def writer(place: Place) -> Iterator[Writer]:
    """A writer at the place."""
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(FOLDER)!r}); from measuring.writer import main; main()",
    ]
    process = subprocess.Popen([*command, place.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Writer(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


async def serve(url: str) -> None:
    """Answer commands until standard input ends."""
    from sofa_registry_adapters.engine.plugins import Plugins, factory
    from sofa_registry_adapters.settings import parse_target, scheme_of
    from sofa_registry_adapters.spi.clock import SystemClock

    backend = Plugins().backend(scheme_of(url))
    store: Any = factory(backend)(parse_target(url, backend), SystemClock())  # type: ignore[operator]
    await store.open()

    async def renew() -> None:
        while True:
            await asyncio.sleep(store.lease / 3)
            await store.renew()

    renewing = asyncio.create_task(renew())
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, service, number = json.loads(line)
        start = time.monotonic()
        if verb == "fill":
            await store.put([record(service, one) for one in range(number)])
        elif verb == "put":
            await store.put([record(service, number)])
        else:
            await store.delete([record(service, number).key])
        sys.stdout.write(f"{start!r}\n")
        sys.stdout.flush()
    renewing.cancel()
    await store.close()


def main() -> None:
    """The program."""
    asyncio.run(serve(sys.argv[-1]))
