"""Real etcd servers of the test kit: found, built, started and hurt."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import (
    ABILITIES,
    PRODUCTS,
    Service,
    ServiceError,
    ServiceUnavailable,
    etcd,
    find_service,
)
from sofa_registry_adapters.testing.services.etcd.program import BuildFailed, build, program


def ask(service: Service, path: str, **body: object) -> Any:
    connection = HTTPConnection(service.host, service.port, timeout=5)
    connection.request("POST", f"/v3/{path}", json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


@pytest.fixture(params=("etcd", "etcd36"))
def own(request: pytest.FixtureRequest) -> OwnEtcd:
    factory: OwnEtcd = request.getfixturevalue(f"own_{request.param}")
    return factory


def alone(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """No container, no program on the PATH, nothing in the cache, no server named."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setenv("PATH", str(place))
    for name in ("ETCD", "ETCD36"):
        monkeypatch.delenv(f"SOFA_TEST_{name}_BINARY", raising=False)
        monkeypatch.delenv(f"SOFA_TEST_{name}_URL", raising=False)


def test_the_shared_servers_are_of_two_versions(etcd_service: Service, etcd36_service: Service) -> None:
    versions = [ask(one, "maintenance/status")["version"] for one in (etcd_service, etcd36_service)]
    assert versions[1] == etcd.CURRENT
    assert {one.url.partition("://")[0] for one in (etcd_service, etcd36_service)} == {"etcd"}
    assert etcd_service.check_alive() == etcd36_service.check_alive() == ""


def test_a_server_of_our_own_can_be_hurt_and_keeps_its_data(own: OwnEtcd) -> None:
    server = own()
    assert server.abilities == ABILITIES
    ask(server, "kv/put", key="YQ==", value="MQ==")
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address, timeout=5)
    server.start()
    assert ask(server, "kv/range", key="YQ==")["count"] == "1"
    server.pause()
    assert "imeout" in server.check_alive()
    server.resume()
    server.restart()
    assert ask(server, "kv/range", key="YQ==")["count"] == "1"
    server.wipe()
    assert "count" not in ask(server, "kv/range", key="YQ==")


def test_further_words_are_a_server_of_its_own(own: OwnEtcd) -> None:
    plain, narrow = own(), own("--max-txn-ops=2")
    assert narrow is own("--max-txn-ops=2")
    assert narrow.port != plain.port
    puts = [{"request_put": {"key": key, "value": ""}} for key in ("YQ==", "Yg==", "Yw==")]
    assert "succeeded" in ask(plain, "kv/txn", success=puts)
    assert "too many operations" in str(ask(narrow, "kv/txn", success=puts))


def test_the_probe_tells_another_product(redis_service: Service) -> None:
    assert PRODUCTS["etcd"].probe(redis_service.host, redis_service.port, 1.0)


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, tmp_path)
    with pytest.raises(ServiceUnavailable, match=r"no etcd on the PATH.*apt-get install etcd-server"):
        find_service("etcd")
    with pytest.raises(ServiceUnavailable, match=rf"{etcd.CURRENT} is not built.*python -m .*services\.etcd"):
        find_service("etcd36")


def test_a_program_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_etcd: OwnEtcd) -> None:
    own_etcd()  # there is one
    found = next(
        Path(folder, "etcd") for folder in os.environ["PATH"].split(os.pathsep) if Path(folder, "etcd").exists()
    )
    alone(monkeypatch, tmp_path)
    monkeypatch.setenv("SOFA_TEST_ETCD36_BINARY", str(found))
    with find_service("etcd36") as server:
        assert server.check_alive() == ""
    monkeypatch.setenv("SOFA_TEST_ETCD_BINARY", str(tmp_path / "none"))
    with pytest.raises(ServiceUnavailable, match=r"SOFA_TEST_ETCD_BINARY names .*none', which is no program"):
        find_service("etcd")


def test_a_server_that_is_named(monkeypatch: pytest.MonkeyPatch, etcd_service: Service) -> None:
    monkeypatch.setenv("SOFA_TEST_ETCD_URL", f"etcd://u:p@{etcd_service.host}:{etcd_service.port}")
    with find_service("etcd") as server:
        assert server.address == etcd_service.address
        assert not server.abilities
    monkeypatch.setenv("SOFA_TEST_ETCD_URL", "redis://127.0.0.1:1")
    with pytest.raises(ServiceError, match="has to look like etcd://HOST:2379"):
        find_service("etcd")


def test_building_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, tmp_path)
    with pytest.raises(BuildFailed, match="no go on the PATH"):
        build(etcd.CURRENT)
    with pytest.raises(BuildFailed, match="no version of etcd"):
        build("3.6.16/../../x")
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho no such module; exit 3\n")
    go.chmod(0o755)
    with pytest.raises(BuildFailed, match=r"go mod failed on etcd 3\.6\.16: no such module"):
        build("3.6.16")
    assert not program("3.6.16").exists()
    # The last command makes the program: what is built once is not built again.
    go.write_text('#!/bin/sh\n[ "$1" = build ] && : > etcd\nexit 0\n')
    assert build("3.6.16") == program("3.6.16")
    go.unlink()
    assert build("3.6.16").exists()


def test_the_command_that_builds(tmp_path: Path) -> None:
    module = "sofa_registry_adapters.testing.services.etcd"
    (tmp_path / "sofa-registry-testing" / "etcd-3.5.0").mkdir(parents=True)
    (tmp_path / "sofa-registry-testing" / "etcd-3.5.0" / "etcd").touch()
    for words, code, said in (
        (["3.5.0"], 0, "etcd 3.5.0 is "),
        (["three"], 1, "'three' is no version of etcd"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        )
        assert done.returncode == code
        assert said in done.stdout + done.stderr
