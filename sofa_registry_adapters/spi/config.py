"""SPI of configuration: values under keys, one revision each.

Stores get it from the engine; a product with a configuration service of its own implements it. As everywhere in the SPI:
no retry, no cache, no timer, no listener; each call is bounded by its caller, which may cancel it at any await; only errors of
`sofa_registry_adapters.errors` are raised; all methods run on one event loop, several at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

import msgspec

from sofa_registry_adapters.model.config import Absent, ConfigItem, ConfigKey
from sofa_registry_adapters.spi.options import Capabilities
from sofa_registry_adapters.spi.registry import Rejected


class ConfigDraft(msgspec.Struct, frozen=True):
    """What is to be published. Printing it shows no content.

    ``content`` fits into ``Capabilities.max_config_bytes`` and is text where ``binary_config`` is not declared: the engine
    has looked. ``content_type`` says what kind of text it is (``yaml``, ``json``, …; may be empty), ``author`` who publishes.
    """

    content: str | bytes
    content_type: str = ""
    author: str = ""

    @property
    def data(self) -> bytes:
        """The content as bytes; text is UTF-8."""
        return self.content if isinstance(self.content, bytes) else self.content.encode()

    def __repr__(self) -> str:
        return f"<ConfigDraft {len(self.data)} bytes {self.content_type}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("content_type", self.content_type)]


class ConfigBackend(ABC):
    """What the engine drives for a ConfigCenter.

    Promises, tested by the contract suite:

    1. `publish` and `remove` with an ``expected`` revision take effect only if it is the present one, decided by the
       product and not by a look before; else `Conflict` with both revisions. After any other error but `Refused` and
       `InvalidArgument` the outcome is unknown.
    2. A revision is new with every publication, also with that of an equal content where the product keeps such; a key
       that was removed and created again never gets an old one, except where the product's revision is a digest of the content.
       Revisions are bare: the engine puts the product's name in front, and takes it off what callers hand back.
    3. `get` after a `publish` that returned, by the same open backend, answers that value or a later one.
    4. `watch` yields the present value (None or ABSENT as `get` has it), then each change; of several quick changes it may
       leave out all but the last. A `Rejected` in place of a value says that there is one, but that it cannot be decoded: the
       last good one stays. It raises `Unavailable` when it is cut, by `close` as well.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the product can do; ``max_config_bytes`` is for the content alone."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. May be called again after it raised, and after `close`."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect. Never raises."""

    @abstractmethod
    async def renew(self) -> None:
        """Prove that the product answers; called every second or so. Raises when the connection, or that of a watch, is gone."""

    async def lost(self) -> None:
        """Return when `renew` has certainly something to find: it is then called at once. By default never."""
        import asyncio

        await asyncio.Event().wait()

    @abstractmethod
    async def get(self, key: ConfigKey) -> ConfigItem | Absent | None:
        """The present value; None if there is none. Raises `CorruptRecord` for one that cannot be decoded.

        ABSENT says more than None: there is none, and no trace of a removal either. The engine then keeps a value that it
        knows, for the product lost it. A product that cannot tell says None.
        """

    @abstractmethod
    async def publish(self, key: ConfigKey, draft: ConfigDraft, expected: str | Absent | None) -> str:
        """Write the value and return its revision. ``expected``: a revision, ABSENT, or None for unconditionally."""

    @abstractmethod
    async def remove(self, key: ConfigKey, expected: str | None, author: str = "") -> bool:
        """Remove the value; whether there was one. ``author``: who does it, where the product keeps that."""

    @abstractmethod
    async def keys(self, group: str) -> Sequence[str]:
        """The keys of the group that have a value, sorted."""

    @abstractmethod
    async def history(self, key: ConfigKey, limit: int) -> Sequence[ConfigItem]:
        """The last ``limit`` values, the newest first, the present one included; at least 20 are kept."""

    @abstractmethod
    def watch(self, key: ConfigKey) -> AsyncIterator[ConfigItem | Rejected | Absent | None]:
        """The present value, then each change. Ends only by raising, or when the iterator is closed."""
