"""Child processes that can be killed and frozen, and that never outlive the process that started them."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO

# Runs between fork and the program: asks the kernel to kill it with its parent (Linux), then becomes the
# program. A preexec_fn would do the same, but Python warns of it, rightly, in a process that has threads.
_LEASH = """
import os, signal, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""

_STOPS_WITHIN = 1.0
"""Seconds that the threads of a program may take to stop; one in the kernel stops when that lets it."""


def _runs(process: int) -> bool:
    """Whether a thread of the process still runs, where the machine says so (Linux)."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "TtZX":
                return True
    return False


class ChildProcess:
    """One program, started at once, in a session of its own; it dies with this process, however that ends.

    `argv` is the program and its arguments; `output` takes what it writes to either stream (default:
    nowhere); `env` is added to the environment.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        output: int | IO[bytes] = subprocess.DEVNULL,
    ) -> None:
        self.argv: tuple[str, ...] = tuple(argv)
        self._owner = os.getpid()
        self._ended = threading.Event()
        self._code: int | None = None
        started: Future[subprocess.Popen[bytes]] = Future()
        # The kernel counts the *thread* that forked as the parent, so this one stays until the child is gone.
        threading.Thread(
            target=self._attend, args=(started, env, cwd, output), name=f"child {argv[0]}", daemon=True
        ).start()
        self._popen = started.result()
        atexit.register(self._kill_at_exit)

    def _attend(
        self,
        started: Future[subprocess.Popen[bytes]],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        output: int | IO[bytes],
    ) -> None:
        leash = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid())]
        try:
            child = subprocess.Popen(
                [*leash, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                start_new_session=True,
            )
        except BaseException as error:  # noqa: BLE001 - it is raised again where the child was asked for
            started.set_exception(error)
            return
        started.set_result(child)
        self._code = child.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        """The process id; it is the program's own, and the id of its process group."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether the program still runs; a frozen one does."""
        return not self._ended.is_set()

    def wait(self, timeout: float = 10.0) -> int:
        """The exit status once the program has ended; negative: the signal that ended it.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        if not self._ended.wait(timeout):
            message = f"{self.argv[0]} (process {self.pid}) still runs after {timeout:g} s"
            raise TimeoutError(message)
        atexit.unregister(self._kill_at_exit)
        return self._code if self._code is not None else 0

    def kill(self) -> None:
        """SIGKILL to the whole group, frozen or not; returns when the program is dead."""
        self._signal(signal.SIGKILL)
        self.wait()

    def terminate(self, timeout: float = 10.0) -> int:
        """SIGTERM, after waking the program if it is frozen; the exit status.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        return self.wait(timeout)

    def stop(self) -> None:
        """SIGSTOP: the program hangs when this returns, its connections stay open, the kernel accepts new ones."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOPS_WITHIN
        while _runs(self.pid) and time.monotonic() < deadline:
            time.sleep(0.001)

    def cont(self) -> None:
        """SIGCONT: the program goes on as if no time had passed."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _kill_at_exit(self) -> None:
        # A forked copy of this process has inherited the duty, but not the child.
        if os.getpid() == self._owner:
            self._signal(signal.SIGKILL)


class PythonProcess(ChildProcess):
    """A child Python whose output can be waited for, line by line; `python_process` makes one."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self._lines: list[str] = []
        self._seen = 0
        self._finished = False
        self._news = threading.Condition()
        receiving, sending = os.pipe()
        try:
            super().__init__([sys.executable, *arguments], env={"PYTHONUNBUFFERED": "1", **env}, output=sending)
        except BaseException:
            os.close(receiving)
            raise
        finally:
            os.close(sending)
        threading.Thread(target=self._read, args=(receiving,), name=f"output {self.pid}", daemon=True).start()

    def _read(self, receiving: int) -> None:
        with open(receiving, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                with self._news:
                    self._lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._finished = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        """Everything the child has written so far, to either stream."""
        with self._news:
            return "\n".join(self._lines)

    def expect(self, text: str, timeout: float = 10.0) -> str:
        """The next line that contains `text`; the search begins after the line found last.

        Raises:
            AssertionError: the child ended, or `timeout` seconds passed, without one; its output is attached.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for index in range(self._seen, len(self._lines)):
                    if text in self._lines[index]:
                        self._seen = index + 1
                        return self._lines[index]
                if self._finished or not self._news.wait(max(0.0, deadline - time.monotonic())):
                    why = "ended" if self._finished else f"ran {timeout:g} s"
                    shown = "\n".join(self._lines) or "(nothing)"
                    message = f"the child {why} without writing {text!r}; it wrote:\n{shown}"
                    raise AssertionError(message)


@contextlib.contextmanager
def python_process(program: str | Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[PythonProcess]:
    """A child of this Python that runs `program`, killed when the block ends.

    A string is source code; a sequence is what follows `python` on the command line, as in
    `["-m", "package.module"]`. `env` is added to this process's environment. Both output streams are read
    together.
    """
    arguments = ["-c", program] if isinstance(program, str) else list(program)
    child = PythonProcess(arguments, env or {})
    try:
        yield child
    finally:
        child.kill()
