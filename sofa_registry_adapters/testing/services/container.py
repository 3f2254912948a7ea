"""A server in a container, where a daemon runs here and has the image already; nothing is ever pulled.

The variable SOFA_TEST_CONTAINERS decides: ``auto``, as without it, takes a container where there can be one, ``required`` takes nothing
else, ``off`` takes none.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from sofa_registry_adapters.testing.faults import free_port
from sofa_registry_adapters.testing.services.product import Product
from sofa_registry_adapters.testing.services.service import ABILITIES, Service, ServiceError

SWITCH = "SOFA_TEST_CONTAINERS"
_SWITCHED = ("auto", "required", "off")
_DAEMON_SECONDS = 5.0
_STOP_SECONDS = 5
_LOG_SHOWN = 2_000


def switch() -> str:
    """What SOFA_TEST_CONTAINERS says: ``auto``, ``required`` or ``off``."""
    found = os.environ.get(SWITCH) or "auto"
    if found not in _SWITCHED:
        message = f"{SWITCH} is {', '.join(_SWITCHED[:-1])} or {_SWITCHED[-1]}, not {found!r}"
        raise ServiceError(message)
    return found


def container_obstacle(product: Product) -> str:
    """Nothing if the product can run in a container here, or else what stands in the way."""
    if switch() == "off":
        return f"{SWITCH} is off"
    if not _daemon_listens():
        return "no container daemon answers"
    try:
        import docker
        import testcontainers.core.container  # noqa: F401
    except ImportError:
        return "testcontainers is not installed"
    try:
        with contextlib.closing(docker.from_env(timeout=_DAEMON_SECONDS)) as daemon:
            daemon.ping()
            daemon.images.get(product.image_name)
    except docker.errors.ImageNotFound:
        return f"no image {product.image_name} on this machine"
    except (docker.errors.DockerException, OSError):
        return "no container daemon answers"
    return ""


def _daemon_listens() -> bool:
    """Whether somebody listens on the daemon's socket: cheaper than to load a client and have it fail."""
    place = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    if place.scheme != "unix":
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_DAEMON_SECONDS)
        try:
            probe.connect(place.path)
        except OSError:
            return False
    return True


class ContainerService(Service):
    """A server of our own in a container, on a fixed port of the daemon's host."""

    abilities = ABILITIES

    def __init__(self, product: Product, *, persistent: bool) -> None:
        daemon = urlsplit(os.environ.get("DOCKER_HOST", ""))
        host = (daemon.hostname or "") if daemon.scheme == "tcp" else ""
        host = host or "127.0.0.1"
        super().__init__(product, host, free_port(offsets=product.offsets), origin=f"container of {product.image_name}")
        self._persistent = persistent
        self._owner = os.getpid()
        self._container = self._create()
        atexit.register(self.close)
        try:
            self._container.start()
            self._await_answer()
        except BaseException:
            self.close()
            raise

    def _create(self) -> Any:
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        # Its reaper is an image of its own, which nobody here has pulled; `close` does the work.
        testcontainers_config.ryuk_disabled = True
        image = self.product.image
        # Any, because testcontainers is optional, and so are its types.
        container: Any = DockerContainer(self.product.image_name)
        # On this machine's loopback only, unless the daemon is elsewhere: these servers ask for no password.
        local = self.host == "127.0.0.1"
        for offset in self.product.offsets:
            outside = self.port + offset
            container.ports[image.port + offset] = (self.host, outside) if local else outside
        for name, value in image.environment.items():
            container.with_env(name, value)
        command = image.command(self._persistent)
        return container if command is None else container.with_command(list(command))

    @property
    def _inner(self) -> Any:
        inner = self._container.get_wrapped_container()
        inner.reload()
        return inner

    def kill(self) -> None:
        inner = self._inner
        if inner.status == "paused":
            inner.unpause()
        if inner.status != "exited":
            inner.kill()
        inner.wait(timeout=_STOP_SECONDS)

    def stop(self) -> None:
        inner = self._inner
        if inner.status == "paused":
            inner.unpause()
        inner.stop(timeout=_STOP_SECONDS)

    def start(self) -> None:
        inner = self._inner
        if inner.status == "paused":
            inner.unpause()
        elif inner.status != "running":
            inner.start()
        self._await_answer()

    def pause(self) -> None:
        self._inner.pause()

    def resume(self) -> None:
        self.start()

    def wipe(self) -> None:
        self._container.stop(force=True, delete_volume=True)
        self._container = self._create()
        self._container.start()
        self._await_answer()

    def close(self) -> None:
        if os.getpid() != self._owner:
            return
        self._container.stop(force=True, delete_volume=True)
        atexit.unregister(self.close)

    def _check_running(self) -> None:
        if self._inner.status in {"exited", "dead"}:
            message = f"{self!r} ended{self._log_tail()}"
            raise ServiceError(message)

    def _log_tail(self) -> str:
        text = self._inner.logs(tail=40).decode(errors="replace").strip()
        return f"; the end of its log:\n{text[-_LOG_SHOWN:]}"
