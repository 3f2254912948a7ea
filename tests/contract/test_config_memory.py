from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from sofa_registry_adapters.backends.memory import space
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.contract import ConfigContract, StoreFaults

NAME = "config contract"


class MemoryFaults(StoreFaults):
    """The faults of a space, as those of a server."""

    abilities = StoreFaults.abilities | {"kill", "start", "pause", "resume", "wipe", "cut", "black_hole", "heal"}

    def __init__(self, namespace: str) -> None:
        super().__init__(f"memory://{NAME}", {"namespace": namespace})
        self._space = space(NAME, namespace)

    def kill(self) -> None:
        self._space.partition()

    def start(self) -> None:
        self._space.heal()

    def pause(self) -> None:
        self._space.slow(3600.0)

    def resume(self) -> None:
        self._space.slow(0.0)

    def wipe(self) -> None:
        self._space.wipe()

    def cut(self) -> None:
        self._space.partition()
        self._space.heal()

    def black_hole(self) -> None:
        self.pause()

    def heal(self) -> None:
        self.resume()

    def close(self) -> None:
        self.start()
        self.resume()
        super().close()


class TestMemoryConfig(ConfigContract):
    # A call that hangs when the space is paused goes on hanging after that, so let it not hang long.
    registry_options: ClassVar[dict[str, Value]] = {"call_timeout": 1.0}

    @pytest.fixture
    def registry_url(self) -> str:
        return f"memory://{NAME}"

    @pytest.fixture
    def faults(self, registry_url: str, namespace: str) -> Iterator[MemoryFaults]:
        faults = MemoryFaults(namespace)
        yield faults
        faults.close()
