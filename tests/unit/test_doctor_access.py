"""What doctor says of a server that answers: strangers, passwords, permissions; and its probe leaves nothing."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Iterator

import pytest
import redis
from doctor_reports import HELLO, SECRET, codes, fresh, home, is_documented, only, report_on
from kazoo.client import KazooClient

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli.doctor.strangers import Stranger, recognised
from sofa_registry_adapters.testing.faults import NetProxy, free_port
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["home"]


@pytest.mark.parametrize("product", ("redis", "zookeeper"))
def test_a_black_hole(product: str, request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue(f"{product}_service")
    with NetProxy(service.address) as proxy:
        proxy.black_hole()
        finding = only(f"{product}://{proxy.address}", timeout=1.0)
    assert (finding.step, finding.code) == ("login", "silent")
    assert "accepts connections and gave no answer within 1 s. The server hangs, or a proxy" in finding.sentence
    assert is_documented(finding)


def test_redis_where_etcd_is_expected(redis_service: Service) -> None:
    finding = only(f"etcd://{redis_service.host}:{redis_service.port}", timeout=5.0)
    assert (finding.step, finding.code) == ("login", "other-product")
    assert "is a Redis server, and etcd:// needs another one" in finding.sentence


def test_one_etcd_of_several_that_is_not_there(etcd_service: Service) -> None:
    report = report_on(fresh(etcd_service).replace("etcd://", f"etcd://127.0.0.1:{free_port()},"))
    (finding,) = report.findings
    assert (finding.severity, finding.step) == ("warning", "tcp")
    assert "refuses connections" in finding.sentence


def test_redis_where_zookeeper_is_expected(redis_service: Service) -> None:
    finding = only(f"zookeeper://{redis_service.host}:{redis_service.port}", timeout=5.0)
    assert (finding.step, finding.code) == ("login", "other-product")
    assert "is a Redis server, and zookeeper:// needs another one: Apache ZooKeeper" in finding.sentence
    assert "Write redis:// if that is the registry, or correct the port." in finding.sentence
    assert is_documented(finding)


def test_zookeeper_where_redis_is_expected(zookeeper_service: Service) -> None:
    finding = only(f"redis://{zookeeper_service.host}:{zookeeper_service.port}")
    assert (finding.step, finding.code) == ("login", "other-product")
    assert "is a ZooKeeper server, and redis:// needs another one" in finding.sentence
    assert is_documented(finding)


@pytest.mark.parametrize(
    ("answer", "who"),
    ((b"HTTP/1.1 400 Bad Request", Stranger.WEB), (b"\x15\x03\x01", Stranger.TLS), (b"220 mail", None), (b"", None)),
)
def test_strangers_are_known_by_their_answer(answer: bytes, who: Stranger | None) -> None:
    assert recognised(answer) is who


@pytest.fixture
def guarded(redis_service: Service) -> Iterator[tuple[Service, redis.Redis]]:
    """A server with a user `reader`, who may read, and a user `nobody`, who may do nothing."""
    client = redis.Redis(host=redis_service.host, port=redis_service.port)
    reading = (
        "~sofa:* &sofa:* -@all +ping +select +time +hget +hmget +hgetall +hlen +hexists +zscore +zrangebyscore "
        "+zrangebylex +zlexcount +xrange +exists +eval +evalsha"
    )
    client.execute_command("ACL", "SETUSER", "reader", "reset", "on", f">{SECRET}", *reading.split())
    client.execute_command("ACL", "SETUSER", "nobody", "reset", "on", f">{SECRET}", "-@all", "+ping", "+select")
    yield redis_service, client
    client.execute_command("ACL", "DELUSER", "reader", "nobody")
    client.close()


def test_a_wrong_password(own_redis: OwnService) -> None:
    service = own_redis()
    client = redis.Redis(host=service.host, port=service.port)
    client.config_set("requirepass", "right")
    try:
        wrong = only(f"redis://:{SECRET}@{service.host}:{service.port}")
        none = only(f"redis://{service.host}:{service.port}")
        good = report_on(f"redis://:right@{service.host}:{service.port}?namespace={uuid.uuid4().hex}")
    finally:
        redis.Redis(host=service.host, port=service.port, password="right").config_set("requirepass", "")
        client.close()
    assert (wrong.step, wrong.code) == ("login", "wrong-credentials")
    assert "invalid username-password pair or user is disabled." in wrong.sentence
    assert "Correct the user and the password: redis://user:password@host, each percent-encoded." in wrong.sentence
    assert "Authentication required. Give a user and a password: redis://user:password@host" in none.sentence
    assert is_documented(wrong)
    assert is_documented(none)
    assert codes(good) == []


def test_a_file_that_is_no_database(tmp_path: pathlib.Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    finding = only(f"local://{tmp_path}/registry.db")
    assert (finding.step, finding.code) == ("login", "damaged-store")
    assert "registry.db is damaged or no database of this library (file is not a database)" in finding.sentence
    assert "Nothing was overwritten. Move it away together with registry.db-wal" in finding.sentence
    assert is_documented(finding)


def test_a_user_who_may_not_read(guarded: tuple[Service, redis.Redis]) -> None:
    service, _ = guarded
    finding = only(f"redis://nobody:{SECRET}@{service.host}:{service.port}")
    assert (finding.step, finding.code) == ("permission", "may-not-read")
    assert "the user 'nobody' may not read here" in finding.sentence
    assert "sofa-registry backends redis says which rights are needed." in finding.sentence
    assert is_documented(finding)


def test_a_user_who_may_only_read(guarded: tuple[Service, redis.Redis]) -> None:
    service, client = guarded
    namespace = uuid.uuid4().hex
    report = report_on(f"redis://reader:{SECRET}@{service.host}:{service.port}?namespace={namespace}")
    (finding,) = report.findings
    assert (finding.severity, finding.code) == ("warning", "may-not-write")
    assert "the user 'reader' may read, but not write" in finding.sentence
    assert "Consumers need no more, publishers do" in finding.sentence
    assert report.steps[-1].step == "records"
    assert client.keys(f"*{namespace}*") == []


@pytest.fixture
def operator(zookeeper_service: Service) -> Iterator[KazooClient]:
    client = KazooClient(f"{zookeeper_service.host}:{zookeeper_service.port}")
    client.start()
    yield client
    client.stop()
    client.close()


def test_zookeeper_nodes_of_somebody_else(zookeeper_service: Service, operator: KazooClient) -> None:
    namespace = uuid.uuid4().hex
    at = f"{zookeeper_service.host}:{zookeeper_service.port}?namespace={namespace}"
    with Registry(f"zookeeper://ann:{SECRET}@{at}") as registry:
        registry.publish(str(HELLO), "10.0.0.7:80")
        assert codes(report_on(f"zookeeper://ann:{SECRET}@{at}")) == []
        finding = only(f"zookeeper://bob:{SECRET}@{at}")
    assert (finding.step, finding.code) == ("permission", "may-not-read")
    assert "the user 'bob' may not read here" in finding.sentence


@pytest.mark.parametrize("product", ("redis", "zookeeper"))
def test_nothing_of_the_probe_is_left(product: str, request: pytest.FixtureRequest) -> None:
    url = fresh(request.getfixturevalue(f"{product}_service"))
    with Registry(url) as registry:
        assert codes(report_on(url)) == []
        assert registry.services() == []
        assert registry.lookup("~doctor") is not None
    report = report_on(url)
    assert report.steps[-1].seen == "0 records of 0 services"
    assert next(one.seen for one in report.steps if one.step == "version")
