"""A config center whose backend answers as it is told, and what a listener was told."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from sofa_registry_adapters import Absent, ConfigCenter, ConfigChange, ConfigItem, ConfigKey
from sofa_registry_adapters.backends.memory import Space, space
from sofa_registry_adapters.errors import Conflict, CorruptRecord
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.config import ConfigBackend, ConfigDraft
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Target
from sofa_registry_adapters.spi.registry import Rejected

KEY = ConfigKey("pool.yaml")
Step = ConfigItem | Rejected | Absent | Exception | None


def item(content: str, revision: str = "") -> ConfigItem:
    return ConfigItem(key=KEY.key, content=content, revision=revision or content)


class Scripted(ConfigBackend):
    """A product with a configuration service of its own, whose watches and reads a test feeds, from any thread."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self.steps: list[Step] = []
        self.found: Step = None
        self.watches = 0
        self.reads = 0
        self.opening: Exception | None = None
        self.expected: list[str | Absent | None] = []
        self.drafts: list[ConfigDraft] = []
        self.conflict: Conflict | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self) -> None:
        if self.opening is not None:
            raise self.opening

    async def close(self) -> None: ...
    async def renew(self) -> None: ...

    async def get(self, key: ConfigKey) -> ConfigItem | Absent | None:
        self.reads += 1
        if isinstance(self.found, Exception):
            raise self.found
        if isinstance(self.found, Rejected):
            raise CorruptRecord(self.found.reason)
        return self.found

    async def publish(self, key: ConfigKey, draft: ConfigDraft, expected: str | Absent | None) -> str:
        self.drafts.append(draft)
        self.expected.append(expected)
        if self.conflict is not None:
            raise self.conflict
        return "fresh"

    async def remove(self, key: ConfigKey, expected: str | None, author: str = "") -> bool:
        self.expected.append(expected)
        return True

    async def keys(self, group: str) -> Sequence[str]:
        return [group]

    async def history(self, key: ConfigKey, limit: int) -> Sequence[ConfigItem]:
        return [item("c"), item("b"), item("a")][:limit]

    async def watch(self, key: ConfigKey) -> AsyncIterator[ConfigItem | Rejected | Absent | None]:
        self.watches += 1
        at = 0
        if isinstance(self.found, Exception):
            raise self.found
        self.steps.clear()
        yield self.found
        while True:
            while at < len(self.steps):
                step = self.steps[at]
                at += 1
                if isinstance(step, Exception):
                    raise step
                yield step
            await asyncio.sleep(0.002)


class Product:
    """A plug-in with one scripted product; ``backend`` is the one that is open."""

    def __init__(self, **capabilities: bool | int) -> None:
        self.capabilities = Capabilities(**capabilities)  # type: ignore[arg-type]
        self.backend = Scripted(self.capabilities)

    @hookimpl
    def sofa_registry_backends(self) -> Sequence[BackendType]:
        def make(target: Target, clock: Clock) -> object:
            return self.backend

        return [
            BackendType(
                schemes=("scripted", "alias"),
                summary="scripted",
                grammar="scripted://",
                considerations="",
                capabilities=self.capabilities,
                load=lambda: make,
                load_config=lambda: make,
                store=False,
                needs_host=False,
            )
        ]

    def center(self, clock: Clock | None = None, **options: str | float) -> ConfigCenter:
        return ConfigCenter("alias://", plugins=[self], options={"snapshot": "off", **options}, clock=clock)


class Told(list[ConfigChange]):
    """A listener that keeps what it was told."""

    def __call__(self, change: ConfigChange) -> None:
        self.append(change)

    @property
    def contents(self) -> list[str | bytes | None]:
        return [None if change.item is None else change.item.content for change in self]


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def place(name: str) -> Space:
    return space(name)


def center(name: str, **options: str | float) -> ConfigCenter:
    return ConfigCenter(f"memory://{name}", options={"snapshot": "off", **options})
