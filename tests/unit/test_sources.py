"""The watches behind a service of several buckets: one that ends, however it does, is never silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from sofa_registry_adapters.engine.assembly import Assembly
from sofa_registry_adapters.engine.sources import Sources
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.store import Bucket, RecordStore, StorePatch, StoreSnapshot


class EndingStore:
    """A store whose watches end after the first message."""

    def __init__(self, end: BaseException | None) -> None:
        self._end = end

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot | StorePatch]:
        yield StoreSnapshot(Revision("e", 1), ())
        if self._end is not None:
            raise self._end


@pytest.mark.parametrize(
    ("end", "said"),
    (
        (None, "the watch ended"),
        (Unavailable("cut"), "cut"),
        (ValueError("a bug"), "the watch failed: ValueError: a bug"),
        # As of a client library whose connection is closed under the watch.
        (asyncio.CancelledError(), "the watch was given up by the store itself"),
    ),
)
def test_a_watch_that_ends_is_told(end: BaseException | None, said: str) -> None:
    async def test() -> None:
        layout, service = NativeLayout(), ServiceKey("echo")
        sources = Sources(cast("RecordStore", cast("Any", EndingStore(end))), layout, service)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match=said):
                async for _ in sources.watch(Assembly(layout, service)):
                    pass

    asyncio.run(test())
