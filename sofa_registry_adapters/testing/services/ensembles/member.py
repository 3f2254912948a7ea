"""One server of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sofa_registry_adapters.testing.faults import ChildProcess


class Member:
    """A server in a directory of its own, ``number`` counted from 0. No verb waits until it serves: that takes the others, too."""

    def __init__(self, number: int, port: int, directory: Path, prepare: Callable[[], Sequence[str]]) -> None:
        self.number = number
        self.host = "127.0.0.1"
        self.port = port
        self.frozen = False
        self._directory = directory
        self._prepare = prepare
        self._child: ChildProcess | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"<member {self.number} at {self.address}>"

    @property
    def address(self) -> str:
        """Where clients find it, ``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it can answer: started, not ended, not frozen."""
        return self._child is not None and self._child.alive and not self.frozen

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        path = self._directory / "log"
        return path.read_text(errors="replace")[-2_000:] if path.exists() else ""

    def start(self) -> None:
        """It runs, on the data that it has on disk; nothing if it does."""
        if self._child is not None and self._child.alive:
            self.resume()
            return
        self.frozen = False
        command = self._prepare()
        with (self._directory / "log").open("ab") as log:
            self._child = ChildProcess(command, cwd=self._directory, output=log)

    def kill(self) -> None:
        """SIGKILL; it is dead when this returns."""
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        """It is asked to end, and has when this returns."""
        if self._child is not None:
            self._child.terminate(20.0)

    def pause(self) -> None:
        """It hangs: connections stay open, nobody answers."""
        if self._child is not None:
            self.frozen = True
            self._child.stop()

    def resume(self) -> None:
        """It goes on where it was."""
        if self._child is not None:
            self._child.cont()
            self.frozen = False
