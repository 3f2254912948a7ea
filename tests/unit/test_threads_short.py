"""A process that may start no more threads, and plug-ins that use this library themselves: nothing hangs, nothing stays."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sofa_registry_adapters import AsyncConfigCenter, ConfigCenter, Registry
from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Target
from sofa_registry_adapters.testing.faults import eventually

NONE_LEFT = "can't start new thread"


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let no thread of this name start, as a system does that has none left."""
    start = threading.Thread.start

    def forbidden(name: str) -> None:
        def refuse(thread: threading.Thread) -> None:
            if thread.name == name:
                raise RuntimeError(NONE_LEFT)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)

    return forbidden


@pytest.fixture
def url() -> str:
    return f"memory://?namespace={secrets.token_hex(8)}"


def test_without_a_thread_for_the_engine_a_verb_says_so(url: str, forbid: Callable[[str], None]) -> None:
    forbid("sofa-registry")
    with pytest.raises(Unavailable, match=NONE_LEFT):
        Registry(url).publish("echo", "10.0.0.1:80")


@pytest.mark.parametrize("kind", (Registry, ConfigCenter))
def test_without_a_thread_for_the_disk_it_is_closed_all_the_same(
    kind: Callable[..., Any], url: str, tmp_path: Path, forbid: Callable[[str], None]
) -> None:
    forbid("sofa-registry-disk")
    with Registry(url):
        client = kind(url, options={"snapshot": str(tmp_path)}).open()
        if isinstance(client, ConfigCenter):
            client.publish("k", "1")
            client.get("k")
        else:
            client.publish("echo", "10.0.0.1:80")
            client.watch("echo")
        heartbeat = client._session.engine._lifeline._task
        client.close()
        assert heartbeat.done()


def test_a_change_that_no_thread_could_tell_is_told_later(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with ConfigCenter(url, options={"reconcile": 0.5}) as center:
        center.publish("k", "1")
        center.add_listener("k", lambda change: seen.append(change.item.text if change.item else ""))
        with monkeypatch.context() as short:
            start = threading.Thread.start
            refused = threading.Event()

            def refuse(thread: threading.Thread) -> None:
                if thread.name == "sofa-registry-listener":
                    refused.set()
                    raise RuntimeError(NONE_LEFT)
                start(thread)

            short.setattr(threading.Thread, "start", refuse)
            center.publish("k", "2")
            assert refused.wait(5)
        eventually(lambda: seen == ["1", "2"], 5, "it is told without another change")


def test_without_a_thread_for_the_first_object_a_bind_says_so(url: str, forbid: Callable[[str], None]) -> None:
    @dataclasses.dataclass
    class Pool:
        size: int = 0

    async def test() -> None:
        async with AsyncConfigCenter(url) as center:
            forbid("sofa-registry-listener")
            with pytest.raises(Unavailable, match=NONE_LEFT):
                await center.bind(Pool, "k.json")

    asyncio.run(test())


class Nesting(MemoryStore):
    """A store that opens a Registry, and closes another one, while it is made."""

    opened: Registry
    closed: Registry

    def __init__(self, target: Target, clock: Clock) -> None:
        super().__init__(target, clock)
        self.closed.close()
        self.opened.open()


class Plugin:
    @hookimpl
    def sofa_registry_backends(self) -> Sequence[BackendType]:
        return [msgspec.structs.replace(memory.BACKEND, schemes=("nesting",), load=lambda: Nesting)]


def test_a_backend_may_use_another_registry_while_it_is_made(url: str) -> None:
    Nesting.opened, Nesting.closed = Registry(url), Registry(url).open()
    done: list[str] = []

    def use() -> None:
        with Registry("nesting://", plugins=[Plugin()]) as registry:
            registry.publish("echo", "10.0.0.1:80")
            done.append("published")

    threading.Thread(target=use, daemon=True).start()
    eventually(lambda: done == ["published"], 10, "it does not wait for itself")
    Nesting.opened.close()


def test_a_signal_handler_may_close_one_while_another_is_opened() -> None:
    """At the worst moment, which is inside of what the whole process shares; by a process of its own, since it could hang."""
    program = (
        "import os, signal, sys\n"
        "from sofa_registry_adapters import Registry\n"
        "from sofa_registry_adapters.engine.reactor import REACTOR\n"
        "one, other = Registry('memory://').open(), Registry('memory://')\n"
        "signal.signal(signal.SIGTERM, lambda *_: one.close())\n"
        "watch = REACTOR._watch_exit\n"
        "REACTOR._watch_exit = lambda: (watch(), os.kill(os.getpid(), signal.SIGTERM))\n"
        "REACTOR._watching_exit = False\n"
        "other.publish('echo', '10.0.0.1:80')\n"
        "print(len(other.lookup('echo')))\n"
        "other.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
