"""Typed hot configuration on a real server."""

from __future__ import annotations

import dataclasses
import secrets

import msgspec
import pydantic
import pytest

from sofa_registry_adapters import ConfigKey
from sofa_registry_adapters.model.events import BackendLost, ConfigRejected
from sofa_registry_adapters.testing.contract.centers import Centers
from sofa_registry_adapters.testing.contract.clients import FaceName
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.plugin import OwnService


class Pool(msgspec.Struct, frozen=True):
    size: int = 1


class Settings(msgspec.Struct, frozen=True):
    pool: Pool = Pool()
    name: str = ""


@dataclasses.dataclass(frozen=True)
class PlainPool:
    size: int = 1


@dataclasses.dataclass(frozen=True)
class PlainSettings:
    pool: PlainPool = dataclasses.field(default_factory=PlainPool)
    name: str = ""


class ModelPool(pydantic.BaseModel):
    size: int = 1


class ModelSettings(pydantic.BaseModel):
    pool: ModelPool = ModelPool()
    name: str = ""


@pytest.mark.parametrize("kind", (Settings, PlainSettings, ModelSettings))
@pytest.mark.parametrize("face", ("blocking", "async"))
def test_a_bad_push_under_a_bound_model(own_redis: OwnService, face: FaceName, kind: type[Settings]) -> None:
    """The old value stays, the event names the field; then a good push applies. And so after an outage."""
    server = own_redis()
    centers = Centers(server.url, {"namespace": secrets.token_hex(8)})
    try:
        publisher, consumer = centers.open(), centers.open(face)
        publisher.publish("base.toml", 'name = "base"\npool.size = 5', group="orders", content_type="toml")
        bound = consumer.do(lambda: consumer.center.bind(kind, "base.toml", "app.yaml", group="orders"))
        rejected, lost, steps = consumer.heard(ConfigRejected), consumer.heard(BackendLost), list[tuple[int, int]]()
        consumer.do(lambda: bound.on("pool.size", lambda old, new: steps.append((old, new))))
        before = bound.current
        assert (before.pool.size, before.name) == (5, "base")

        publisher.publish("app.yaml", "pool:\n  size: many\n", group="orders", content_type="yaml")
        eventually(lambda: rejected, 5.0, "it is told")
        assert (rejected[0].key, rejected[0].field) == (ConfigKey("app.yaml", "orders"), "pool.size")
        assert "many" not in rejected[0].reason
        assert bound.current is before

        publisher.publish("app.yaml", "pool:\n  size: 20\n", group="orders", content_type="yaml")
        eventually(lambda: bound.current.pool.size == 20, 5.0, "the good one applies")
        eventually(lambda: steps == [(5, 20)], 5.0, "and is the only step")
        assert (bound.current.name, bound.last_error) == ("base", None)

        server.kill()
        eventually(lambda: lost and bound.stale, 10.0, "it is noticed")
        assert bound.current.pool.size == 20
        server.start()
        eventually(lambda: not bound.stale or rejected[1:], 10.0, "it is back")
        publisher.publish("app.yaml", "pool:\n  size: 21\n", group="orders", content_type="yaml")
        eventually(lambda: bound.current.pool.size == 21, 10.0, "changes flow again")
    finally:
        centers.close()
