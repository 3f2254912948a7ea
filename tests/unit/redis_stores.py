"""Redis stores in a namespace of their own, and an operator at the server."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterator

import pytest
import redis
from bounded_tests import within

from sofa_registry_adapters.backends.redis import BACKEND
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import RecordKey
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.services import Service

bounded = within(30)


class Raw:
    """An operator with a shell on the server, and the names of the keys of `PATH`."""

    def __init__(self, service: Service, namespace: str) -> None:
        self.client = redis.Redis(host=service.host, port=service.port)
        head = f"sofa:{{{namespace}/services/echo}}:"
        self.records, self.leases, self.names = head + "records", head + "leases", head + "names"
        self.log, self.state, self.changes = head + "log", head + "state", head + "changes"


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def raw(redis_service: Service, namespace: str) -> Iterator[Raw]:
    raw = Raw(redis_service, namespace)
    yield raw
    raw.client.close()


Make = Callable[..., RedisStore]


@pytest.fixture
def make(redis_service: Service, namespace: str) -> Make:
    return functools.partial(store_at, redis_service.host, redis_service.port, namespace)


def store_at(host: str, port: int, namespace: str, user: str = "", **options: str | float) -> RedisStore:
    url = f"redis://{user}{host}:{port}/0?namespace={namespace}"
    return RedisStore(parse_target(url, BACKEND, options), SystemClock())


async def kill(store: RedisStore) -> None:
    """End the store as a killed process ends: without a word to the server."""
    session = store._session
    assert session is not None
    for path in session.holdings.paths():
        session.holdings.forget(path)
    await store.close()


async def missing(store: RedisStore, expected: set[RecordKey], seconds: float) -> None:
    async def all_seen() -> bool:
        with contextlib.suppress(Unavailable):
            return set(await store.renew()) == expected
        return False

    await eventually_async(all_seen, seconds, "renew reports what is missing", interval=0.2)
