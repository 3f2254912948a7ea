"""The demo's processes as the one who runs it sees them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import IO

import msgspec

from sofa_registry_adapters.cli.demo.wire import Message

STARTS_WITHIN = 15.0
"""Seconds for a process to start Python, import the library and connect, on a busy machine."""
ENDS_WITHIN = 4.0


class DemoFailed(Exception):
    """A step was not seen within its bound."""


class Actor:
    """One process of the demo. Its messages are numbered by arrival and kept."""

    def __init__(self, name: str, module: str, url: str, *arguments: str) -> None:
        self.name = name
        self.messages: list[Message] = []
        self._news = threading.Condition()
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  close() does
        # A session of its own: Ctrl-C on the terminal is for the demo, which then ends its processes in good order.
        self._process = subprocess.Popen(  # noqa: S603  our own modules
            [sys.executable, "-m", f"sofa_registry_adapters.cli.demo.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # What looks like a reference in it is none: all are filled in by now.
            env={**os.environ, "SOFA_REGISTRY_URL": url.replace("${", "$${")},
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def _read(self) -> None:
        decode = msgspec.json.Decoder(Message).decode
        with contextlib.suppress(ValueError, msgspec.MsgspecError):
            for line in self._process.stdout or ():
                message = decode(line)
                with self._news:
                    self.messages.append(message)
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def until(self, wanted: Callable[[Message], bool], within: float, step: str, after: int = 0) -> Message:
        """The first message from number ``after`` on that is ``wanted``. Raises `DemoFailed`."""
        deadline = monotonic() + within
        position = after
        with self._news:
            while True:
                while position < len(self.messages):
                    if wanted(self.messages[position]):
                        return self.messages[position]
                    position += 1
                if not self._reader.is_alive():
                    raise DemoFailed(f"{step}: {self._last_words()}")
                left = deadline - monotonic()
                if left <= 0:
                    raise DemoFailed(f"{step}: {self.name} has not said so within {within:.1f} s; {self._latest()}")
                self._news.wait(min(left, 0.2))

    def _latest(self) -> str:
        return f"its latest word was {self.messages[-1]}" if self.messages else "it said nothing"

    def _last_words(self) -> str:
        for message in reversed(self.messages):
            if message.error:
                return f"{self.name}: {message.error}"
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"the process of {self.name} ended by itself: {said}"

    def write(self, line: str) -> None:
        """A line for its standard input."""
        with contextlib.suppress(OSError):
            stdin = self._process.stdin
            if stdin is not None:
                stdin.write(f"{line}\n")
                stdin.flush()

    def kill(self) -> float:
        """End it with SIGKILL; when that was."""
        now = monotonic()
        self._process.kill()
        return now

    def stop(self) -> float:
        """Ask it to end with SIGTERM; when that was."""
        now = monotonic()
        self._process.terminate()
        return now

    def ended(self, within: float) -> int | None:
        """Its exit code, once it has ended; None if it has not."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.ended(0) is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(1.0)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def dismiss(actors: Iterable[Actor]) -> None:
    """End them all, in good order where that works: what they published is withdrawn."""
    everybody = list(actors)
    for one in everybody:
        one.stop()
    deadline = monotonic() + ENDS_WITHIN
    for one in everybody:
        one.ended(max(0.0, deadline - monotonic()))
        one.close()
