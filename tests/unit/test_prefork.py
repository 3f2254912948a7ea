"""Servers of several processes, as docs/how-to/pre-fork-servers.md says to set them up."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sofa_registry_adapters import Registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "pre-fork-servers.md").read_text(encoding="utf-8")
WEB = "com.acme.Web"

SERVER = """
import os, signal, sys, threading, time
from sofa_registry_adapters import Registry

url, who = sys.argv[1:]
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
registry = Registry(url)
if who == "master":
    registry.publish("com.acme.Web", "127.0.0.1:8080")
workers = []
ready, tell = os.pipe()
for number in range(3):
    worker = os.fork()
    if not worker:
        if who == "workers":
            with registry:
                registration = registry.publish("com.acme.Web", "127.0.0.1:8080", required=False)
                registration.wait_live(10)
                print(number, os.getpid(), flush=True)
                os.write(tell, b".")
                while not stop.wait(0.02):
                    pass
        else:
            assert [one.port for one in registry.lookup("com.acme.Web")] == [8080]
            print(number, os.getpid(), flush=True)
            os.write(tell, b".")
            while not stop.wait(0.02):
                pass
        sys.exit(0)
    workers.append(worker)
    # One after the other, however long that takes.
    os.read(ready, 1)
while workers:
    try:
        ended, _ = os.wait()
        workers.remove(ended)
    except ChildProcessError:
        break
if who == "master":
    print("alone", flush=True)
    stop.wait(30)
registry.close()
"""


def until(condition: Callable[[], bool], within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Server:
    """The server above, as a process with three workers."""

    def __init__(self, url: str, who: str, folder: Path) -> None:
        self._printed = folder / "printed"
        self._failed = folder / "failed"
        with self._printed.open("w") as printed, self._failed.open("w") as failed:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(SERVER), url, who],
                stdout=printed,
                stderr=failed,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
            )
        until(lambda: len(self.lines()) == 3)
        self.workers = [int(line.partition(" ")[2]) for line in sorted(self.lines())]

    def lines(self) -> list[str]:
        assert self._failed.read_text() == ""
        return self._printed.read_text().splitlines()

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(15) == 0
        assert self._failed.read_text() == ""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"local://{tmp_path}/registry.db?snapshot=off"


@pytest.fixture
def serve(url: str, tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    servers: list[Server] = []

    def start(who: str) -> Server:
        servers.append(Server(url, who, tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


class Seen:
    """How many instances a consumer saw, each time that it changed."""

    def __init__(self, registry: Registry) -> None:
        self.counts: list[int] = []
        registry.subscribe(WEB, lambda change: self.counts.append(len(change.instances)))


def test_a_master_that_publishes_is_not_touched_by_its_workers(url: str, serve: Callable[[str], Server]) -> None:
    server = serve("master")
    with Registry(url) as registry:
        seen = Seen(registry)
        os.kill(server.workers[0], signal.SIGKILL)
        os.kill(server.workers[1], signal.SIGTERM)
        os.kill(server.workers[2], signal.SIGTERM)
        until(lambda: server.lines()[-1] == "alone")
        assert [one.port for one in registry.lookup(WEB)] == [8080]
        assert set(seen.counts) == {1}
        server.end()
        until(lambda: len(registry.lookup(WEB)) == 0)


@pytest.mark.slow
def test_workers_that_publish_one_address_take_over_from_each_other(url: str, serve: Callable[[str], Server]) -> None:
    server = serve("workers")
    with Registry(url) as registry:
        seen = Seen(registry)
        assert seen.counts == [1]
        # The last one started holds it; the end in good order is told, and another one takes over.
        os.kill(server.workers[2], signal.SIGTERM)
        until(lambda: 0 in seen.counts)
        began = time.monotonic()
        until(lambda: seen.counts[-1] == 1)
        assert time.monotonic() - began < 4.0, "two seconds on an idle machine"
        # One of the two that are left holds it now; when both are gone, so is the address.
        os.kill(server.workers[1], signal.SIGKILL)
        until(lambda: [one.port for one in registry.lookup(WEB)] == [8080] and not registry.lookup(WEB).protected)
        os.kill(server.workers[0], signal.SIGTERM)
        assert server.process.wait(15) == 0
        until(lambda: len(registry.lookup(WEB)) == 0)


def block(title: str) -> str:
    return str(re.findall(rf'^```python title="{re.escape(title)}"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)[0])


def test_the_configuration_of_gunicorn_publishes_and_withdraws(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFA_REGISTRY_URL", url)
    configuration: dict[str, Any] = {}
    exec(compile(block("gunicorn.conf.py"), "gunicorn.conf.py", "exec"), configuration)
    server = SimpleNamespace()
    configuration["when_ready"](server)
    with Registry(url) as registry:
        until(lambda: [one.port for one in registry.lookup(WEB)] == [8080])
        configuration["on_exit"](server)
        assert list(registry.lookup(WEB)) == []


def test_the_lifespan_publishes_and_withdraws(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFA_REGISTRY_URL", url)
    found: dict[str, Any] = {}
    [text] = [one for one in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "lifespan" in one]
    exec(compile(text, "lifespan", "exec"), found)

    async def lives() -> None:
        async with found["lifespan"](None):
            with Registry(url) as registry:
                until(lambda: [one.port for one in registry.lookup(WEB)] == [8080])

    asyncio.run(lives())
    with Registry(url) as registry:
        assert list(registry.lookup(WEB)) == []


def count(url: str) -> int:
    with Registry(url) as registry:
        return len(registry.lookup(WEB))


@pytest.mark.parametrize("method", ("spawn", "forkserver", "fork"))
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_every_start_method_of_multiprocessing(method: str, url: str) -> None:
    with Registry(url) as registry:
        registration = registry.publish(WEB, "127.0.0.1:8080")
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map_async(count, [url, url]).get(30) == [1, 1]
        assert registration.state == "live"
        assert len(registry.lookup(WEB)) == 1


def test_a_registry_is_not_handed_over_by_pickle(url: str) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Registry(url))
