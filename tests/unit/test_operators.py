"""What an operator does to a server, seen by a publisher: each verb does what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sofa_registry_adapters.model.events import RegistrationLost
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract.kit import quietly
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.faults.operators import VERBS, Operator, operator_of
from sofa_registry_adapters.testing.services import Service

PRODUCTS = ("redis", "zookeeper", "etcd")


@pytest.fixture(scope="module", params=PRODUCTS)
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(f"own_{request.param}")()
    return found


@pytest.fixture
def operator(service: Service) -> Operator:
    return operator_of(service.product.scheme, service.host, service.port)


@pytest.fixture
def registry(service: Service, request: pytest.FixtureRequest) -> Iterator[Registry]:
    with Registry(service.url, options={"namespace": "operators", "snapshot": "off"}) as opened:
        yield opened


@pytest.mark.parametrize("verb", ("forget", "expire"))
def test_what_is_lost_is_noticed_and_published_again(
    operator: Operator, service: Service, registry: Registry, verb: str
) -> None:
    lost: list[RegistrationLost] = []
    registry.events.on(RegistrationLost, lost.append)
    registration = registry.publish("echo", ["10.0.0.1:1", "10.0.0.2:1"])
    with Registry(service.url, options={"namespace": "operators", "snapshot": "off"}) as other:
        other.publish("another", "10.0.0.3:1")
        getattr(operator, verb)()
        # A lease of Redis is over when somebody writes; until then its owner may renew it.
        other.publish("echo", "10.0.0.3:1", required=False)
        eventually(lambda: lost, 10.0, "the loss is noticed")
    eventually(lambda: registration.state == "live", 10.0, "it is live again")
    eventually(lambda: len(quietly(lambda: registry.lookup("echo")) or ()) == 2, 10.0, "both are there again")


def test_a_connection_that_the_server_ends_is_made_anew(operator: Operator, registry: Registry) -> None:
    if "hang_up" not in operator.abilities:
        with pytest.raises(NotImplementedError, match="hang_up"):
            operator.hang_up()
        return
    seen: list[object] = []
    registry.subscribe("echo", lambda change: seen.append(change.instances))
    registration = registry.publish("echo", "10.0.0.1:1")
    operator.hang_up()
    registration.update(weight=7, timeout=10.0)
    eventually(lambda: registry.lookup("echo")[0].weight == 7, 10.0, "the watch is there again")


def test_what_cannot_be_done_is_said(operator: Operator) -> None:
    assert operator.abilities <= VERBS
    if "compact" in operator.abilities:
        operator.compact()
        operator.compact()
    else:
        with pytest.raises(NotImplementedError, match="compact"):
            operator.compact()


def test_the_server_counts_what_it_holds(operator: Operator, registry: Registry) -> None:
    registry.publish("echo", ["10.0.0.1:1", "10.0.0.2:1"])
    before = operator.counts()
    registry.subscribe("other", lambda _: None)
    after = operator.counts()
    assert after["watches"] > before["watches"]
    assert after.get("records", 2) >= 2
    assert after.get("leases", 1) >= 1
    assert after.get("connections", 1) >= 1


def test_the_server_says_its_version(operator: Operator) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", operator.version())


def test_a_server_that_is_not_there_is_an_error_of_the_system() -> None:
    for scheme in PRODUCTS:
        operator = operator_of(scheme, "127.0.0.1", 1)
        for verb in (operator.expire, operator.forget, operator.counts):
            with pytest.raises(OSError, match="refused"):
                verb()
    assert operator_of("memory", "", 0).counts() == {}
