"""The samples of docs/how-to/least-privilege.md, applied to real servers: they are enough, and what lies outside is denied."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
import redis
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from sofa_registry_adapters import ConfigCenter, Registry
from sofa_registry_adapters.errors import Denied
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.plugin import OwnEtcd, OwnService
from sofa_registry_adapters.testing.services import Service

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "least-privilege.md"
OFF = {"snapshot": "off"}


def sample(product: str) -> list[str]:
    found = re.search(rf"<!-- {product} -->\n```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1].strip().splitlines()


def whole_path(publisher: str, consumer: str) -> None:
    with Registry(publisher, options=OFF) as one, Registry(consumer, options=OFF) as other:
        seen: list[int] = []
        with one.publish("echo", "10.0.0.1:1", metadata={"a": "b"}) as handle:
            assert handle.state == "live"
            other.subscribe("echo", lambda change: seen.append(len(change.instances)), timeout=5)
            eventually(lambda: seen and seen[-1] == 1, 5.0, "it is seen")
            one.publish("echo", "10.0.0.2:1")
            eventually(lambda: seen[-1] == 2, 5.0, "the second is seen")
            assert [str(service) for service in one.services()] == ["echo"]
        eventually(lambda: seen[-1] == 1, 5.0, "the first is withdrawn")
    with ConfigCenter(publisher, options=OFF) as one_center, ConfigCenter(consumer, options=OFF) as other_center:
        one_center.publish("timeout", "3")
        item = other_center.get("timeout")
        assert item is not None
        assert item.content == "3"
        one_center.publish("timeout", "4")
        assert len(one_center.history("timeout")) >= 1
        one_center.remove("timeout")


def denied_to_write(url: str) -> None:
    with Registry(url, options=OFF) as registry, pytest.raises(Denied):
        registry.publish("echo", "10.0.0.9:1", timeout=2)
    with ConfigCenter(url, options=OFF) as center, pytest.raises(Denied):
        center.publish("timeout", "5", timeout=2)


def denied_to_read(url: str) -> None:
    with Registry(url, options=OFF) as registry, pytest.raises(Denied):
        registry.lookup("echo", timeout=2)


def test_redis(own_redis: OwnService) -> None:
    service = own_redis()
    with redis.Redis(service.host, service.port) as operator:
        for line in sample("redis"):
            operator.execute_command(*line.replace("PASSWORD", "pw").split())
    publisher, consumer = (f"redis://{who}:pw@{service.host}:{service.port}" for who in ("publisher", "consumer"))
    whole_path(publisher, consumer)
    denied_to_write(consumer)
    for who in (publisher, consumer):
        denied_to_write(f"{who}?prefix=other")
        denied_to_read(f"{who}?prefix=other")


def test_etcd(own_etcd36: OwnEtcd) -> None:
    if shutil.which("etcdctl") is None:
        pytest.skip("no etcdctl on the PATH")
    service = own_etcd36()
    login: list[str] = []
    for line in sample("etcd"):
        words = line.replace("ROOT-PASSWORD", "root-pw").replace("PASSWORD", "pw").split()
        command = [*words[:1], f"--endpoints={service.host}:{service.port}", *login, *words[1:]]
        subprocess.run(
            command, check=True, capture_output=True, timeout=20, env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}
        )
        if "enable" in line:
            login = ["--user=root:root-pw"]
    publisher, consumer = (f"etcd://{who}:pw@{service.host}:{service.port}" for who in ("publisher", "consumer"))
    whole_path(f"{publisher}/shop", f"{consumer}/shop")
    denied_to_write(f"{consumer}/shop")
    for who in (publisher, consumer):
        denied_to_write(f"{who}/other")
        denied_to_read(f"{who}/other")


def test_zookeeper(zookeeper_service: Service) -> None:
    root, place = uuid.uuid4().hex, f"{zookeeper_service.host}:{zookeeper_service.port}"
    lines = [
        line.replace("host:2181", place).replace("PASSWORD", "pw").replace("/shop", f"/{root}")
        for line in sample("zookeeper")
    ]
    whole_path(*lines)
    denied_to_write(lines[1])
    denied_to_write(lines[0].replace(":pw@", ":other@"))
    operator = KazooClient(place)
    operator.start()
    try:
        operator.create(f"/{root}-private", acl=[make_digest_acl("somebody", "else", all=True)])
    finally:
        operator.stop()
        operator.close()
    denied_to_write(lines[0].replace(root, f"{root}-private"))


def test_local(tmp_path: Path) -> None:
    with Registry(f"local://{tmp_path}/folder/registry.db", options=OFF) as registry:
        registry.publish("echo", "10.0.0.1:1")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "folder").iterdir() if path.is_file()}
        assert modes
        assert not [name for name, mode in modes.items() if mode & 0o077]
        assert (tmp_path / "folder").stat().st_mode & 0o077 == 0
