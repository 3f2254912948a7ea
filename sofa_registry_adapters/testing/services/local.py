"""A server started from a program on this machine."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from sofa_registry_adapters.testing.faults import ChildProcess, free_port
from sofa_registry_adapters.testing.services.product import Prepare, Product
from sofa_registry_adapters.testing.services.service import ABILITIES, Service, ServiceError

_PORTS_TRIED = 5
_LOG_SHOWN = 2_000


class LocalService(Service):
    """A server of our own on a free loopback port, its data in a temporary directory."""

    abilities = ABILITIES

    def __init__(self, product: Product, prepare: Prepare, *, persistent: bool) -> None:
        super().__init__(product, "127.0.0.1", 0, origin="local program")
        self._prepare = prepare
        self._persistent = persistent
        self._owner = os.getpid()
        self._child: ChildProcess | None = None
        self._root = Path(tempfile.mkdtemp(prefix=f"sofa-{product.name}-"))
        self._log = self._root / "log"
        atexit.register(self.close)
        try:
            self._settle()
        except BaseException:
            self.close()
            raise

    @property
    def directory(self) -> Path:
        """Its data and configuration, which `wipe` removes."""
        return self._root / "server"

    def _settle(self) -> None:
        for left in reversed(range(_PORTS_TRIED)):
            self.port: int = free_port(self.host, (*self.product.offsets, *self.product.inner_offsets))
            try:
                self.start()
            except ServiceError:
                if not left or "in use" not in self._log_tail():
                    raise
                self._log.unlink()
            else:
                return

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        if self._child is not None:
            self._child.terminate()

    def start(self) -> None:
        if self._child is not None and self._child.alive:
            self._child.cont()
            self._await_answer()
            return
        said = self._log.stat().st_size if self._log.exists() else 0
        try:
            self._begin()
        except ServiceError:
            words = self.product.stumbles.encode()
            if self._child is None or self._child.alive or not words or words not in self._log.read_bytes()[said:]:
                raise
            self._begin()

    def _begin(self) -> None:
        self.directory.mkdir(exist_ok=True)
        command = self._prepare(self.directory, self.port, self._persistent)
        with self._log.open("ab") as log:
            self._child = ChildProcess(command, cwd=self.directory, output=log)
        self._await_answer()

    def pause(self) -> None:
        if self._child is not None:
            self._child.stop()

    def resume(self) -> None:
        if self._child is not None:
            self._child.cont()
        self._await_answer()

    def wipe(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.start()

    def close(self) -> None:
        if os.getpid() != self._owner:
            return
        self.kill()
        shutil.rmtree(self._root, ignore_errors=True)
        atexit.unregister(self.close)

    def _check_running(self) -> None:
        if self._child is not None and not self._child.alive:
            message = f"{self!r} ended with status {self._child.wait()}{self._log_tail()}"
            raise ServiceError(message)

    def _log_tail(self) -> str:
        try:
            text = self._log.read_text(errors="replace").strip()
        except OSError:
            return ""
        return f"; the end of its log:\n{text[-_LOG_SHOWN:]}" if text else "; its log is empty"
