"""Three servers that are one registry, as the test kit makes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.services import ServiceError, ServiceUnavailable
from sofa_registry_adapters.testing.services.ensembles import Ensemble, ensemble

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=("zookeeper", "etcd"))
def three(request: pytest.FixtureRequest) -> Iterator[Ensemble]:
    try:
        made = ensemble(request.param)
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def whole(three: Ensemble) -> Iterator[None]:
    yield
    three.make_whole()


@pytest.mark.parametrize("verb", ("kill", "pause"))
def test_another_one_leads_when_the_leader_fails(three: Ensemble, verb: str) -> None:
    leader = three.led()
    getattr(leader, verb)()
    assert three.led(by_another_than=leader) is not leader
    assert not three.serves(leader)
    three.make_whole()
    assert all(three.serves(one) for one in three.members)


def test_a_record_outlives_each_of_them(three: Ensemble) -> None:
    with Registry(three.url, options={"snapshot": "off"}) as registry:
        handle = registry.publish("echo", "10.0.0.1:1", timeout=10.0)
        for member in three.members:
            member.stop()
            assert not member.running
            eventually(lambda: count(registry) == 1, 20.0, "it is read")
            member.start()
            three.await_whole()
        eventually(lambda: handle.state == "live", 10.0, "it is live")


def count(registry: Registry) -> int:
    """What one read finds; nothing while a leader is elected."""
    try:
        return len(registry.lookup("echo", timeout=2.0))
    except Unavailable:
        return 0


def test_one_that_is_alone_serves_nobody(three: Ensemble) -> None:
    leader = three.led()
    lonely = next(one for one in three.members if one is not leader)
    with three.alone(lonely):
        eventually(lambda: not three.serves(lonely), 20.0, "it has lost the others")
        assert three.serves(leader) == three.partitions
    three.await_whole()


def test_no_ensemble_of_it() -> None:
    with pytest.raises(ServiceError, match="zookeeper, etcd"):
        ensemble("redis")
