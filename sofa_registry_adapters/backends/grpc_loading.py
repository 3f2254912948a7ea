"""grpc, so that a fork harms nobody: how it is imported, and when a process that used it may be forked. For the backends that speak it."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

_VARIABLES = {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "ERROR"}
"""Both are set while grpc is imported, which reads them then and never again."""
_TASKS = Path("/proc/self/task")
_ENDING = frozenset({"grpc_shutdown\n", "grpc_global_tim\n"})
"""What grpc calls threads that are there until it has ended, some milliseconds after its last channel was closed."""
_ENDS_WITHIN = 1.0


def load_grpc() -> None:
    """Import grpc without its fork handlers and its chatter, unless it is imported already or the environment wants them.

    The handlers are on by default and do not know of `grpc.aio`: with a connection of it, a child may crash right after any fork, whatever
    it does. Without them it only cannot use what it inherited, which it never does. The chatter is a line on standard error for each
    handshake of TLS that fails, and each attempt to connect makes several.
    """
    _watch_forks()
    ours = (
        {} if "grpc" in sys.modules else {name: value for name, value in _VARIABLES.items() if name not in os.environ}
    )
    os.environ |= ours
    try:
        importlib.import_module("grpc")
    finally:
        for name in ours:
            del os.environ[name]


class Channels:
    """How many channels of ours there are, and when the last one was closed. For the engine's thread.

    On the class, since grpc is of the whole process, and so is a fork: it waits for the channels of all backends.
    """

    open = 0
    ended = float("-inf")

    @classmethod
    def opened(cls, channel: Any) -> Any:
        """The channel; `closed` is called once for it."""
        cls.open += 1
        return channel

    @classmethod
    def closed(cls) -> None:
        """A channel is not used any more."""
        cls.open -= 1
        cls.ended = time.monotonic()


class Anchor:
    """A channel that is never connected, for as long as somebody may connect again. For the engine's thread.

    grpc sets itself up for the first of its channels, and aborts the process if there is no file descriptor left for that: not each time
    that a connection is lost and made anew.
    """

    where = "127.0.0.1:0"

    def __init__(self, channel: Any) -> None:
        self._channel = Channels.opened(channel)

    async def close(self) -> None:
        """Let grpc end when nobody else uses it."""
        channel, self._channel = self._channel, None
        if channel is not None:
            try:
                await channel.close()
            finally:
                Channels.closed()


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork") and _TASKS.is_dir():
        os.register_at_fork(before=_await_end)


def _await_end() -> None:
    """Before a fork: let a grpc that is about to end do so, else the child inherits one that never ends and never connects."""
    deadline = Channels.ended + _ENDS_WITHIN
    while not Channels.open and time.monotonic() < deadline and _is_ending():
        time.sleep(0.001)


def _is_ending() -> bool:
    for task in _TASKS.iterdir():
        try:
            if (task / "comm").read_text() in _ENDING:
                return True
        except OSError:  # it ended meanwhile
            continue
    return False
