"""Real Nacos servers of both lines: fetched, found, started and hurt."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import urlopen

import pytest

from sofa_registry_adapters.testing.faults import NetProxy, eventually, free_port
from sofa_registry_adapters.testing.plugin import OwnNacos
from sofa_registry_adapters.testing.services import (
    ABILITIES,
    Service,
    ServiceError,
    ServiceUnavailable,
    find_service,
    nacos,
)
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.nacos.jars import LINES, FetchFailed, class_path
from sofa_registry_adapters.testing.services.nacos.server import drop_half_made

# A server takes ten seconds to start, the first one of a machine a minute.
pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

CONFIG = {2: "/nacos/v2/cs/config", 3: "/nacos/v3/admin/cs/config"}
LOGIN = "/nacos/v3/auth/user/login"
GRPC = 1000


def put(service: Service, line: int, key: str) -> None:
    form = {"dataId": key, "group": "g", "groupName": "g", "content": "kept"}
    post(service, CONFIG[line], form)


def post(service: Service, path: str, form: dict[str, str]) -> bytes:
    with urlopen(f"http://{service.host}:{service.port}{path}", urlencode(form).encode(), timeout=10) as answer:
        return bytes(answer.read())


def holds(service: Service, line: int, key: str) -> bool:
    query = urlencode({"dataId": key, "group": "g", "groupName": "g"})
    try:
        with urlopen(f"http://{service.host}:{service.port}{CONFIG[line]}?{query}", timeout=10) as answer:
            return b'"kept"' in answer.read()
    except HTTPError as error:
        if error.code != 404:
            raise
        return False


def assert_dead(service: Service) -> None:
    for port in (service.port, service.port + GRPC):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((service.host, port), timeout=5)


def take_away_programs(monkeypatch: pytest.MonkeyPatch, place: Path, *kept: str) -> None:
    """Leave only these programs on the PATH, and nothing in the cache."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setenv("PATH", str(place))
    for name in kept:
        (place / name).write_text("#!/bin/sh\nexit 3\n")
        (place / name).chmod(0o755)


class TestBothLines:
    def test_the_shared_servers_answer(self, nacos_service: Service, nacos2_service: Service) -> None:
        for service in (nacos_service, nacos2_service):
            assert service.url.startswith("nacos://")
            assert service.check_alive() == ""
        assert (nacos_service.name, nacos2_service.name) == ("nacos", "nacos2")

    def test_one_that_is_ready_takes_a_configuration_at_once(
        self, nacos_service: Service, nacos2_service: Service
    ) -> None:
        key = uuid.uuid4().hex
        put(nacos_service, 3, key)
        put(nacos2_service, 2, key)
        # It writes to its database and answers from a copy, a tenth of a second behind.
        assert eventually(lambda: holds(nacos_service, 3, key), 5, "the value")
        assert eventually(lambda: holds(nacos2_service, 2, key), 5, "the value")

    @pytest.mark.parametrize("line", (2, 3))
    def test_it_is_killed_frozen_and_wiped_on_the_same_ports(
        self, line: int, own_nacos: OwnNacos, own_nacos2: OwnNacos
    ) -> None:
        service = own_nacos2() if line == 2 else own_nacos()
        assert service.abilities == ABILITIES
        url, key = service.url, uuid.uuid4().hex
        put(service, line, key)
        service.kill()
        assert_dead(service)
        service.start()
        assert service.url == url
        assert eventually(lambda: holds(service, line, key), 5, "the value")
        service.pause()
        assert "TimeoutError" in service.check_alive()
        service.resume()
        assert eventually(lambda: holds(service, line, key), 5, "the value")
        service.stop()
        assert_dead(service)
        service.wipe()
        assert service.url == url
        assert not holds(service, line, key)

    def test_a_proxy_stands_before_both_ports(self, nacos_service: Service, nacos2_service: Service) -> None:
        for service in (nacos_service, nacos2_service):
            with service.proxy() as proxy:
                reach(service, proxy)
                proxy.refuse()
                for offset in (0, GRPC):
                    with pytest.raises(ConnectionRefusedError):
                        socket.create_connection((proxy.host, proxy.port + offset), timeout=5)
                proxy.pass_through()
                reach(service, proxy)

    def test_its_files_are_not_for_others(self, own_nacos2: OwnNacos) -> None:
        service = own_nacos2()
        assert isinstance(service, LocalService)
        for name in ("application.properties", "secrets.json"):
            assert (service.directory / "conf" / name).stat().st_mode & 0o077 == 0

    def test_a_server_of_the_environment_is_found_by_line(
        self, nacos2_service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"nacos://user:secret@{nacos2_service.host}:{nacos2_service.port}/space"
        monkeypatch.setenv("SOFA_TEST_NACOS2_URL", url)
        found = find_service("nacos2")
        assert (found.url, found.address, found.abilities) == (url, nacos2_service.address, frozenset())
        monkeypatch.setenv("SOFA_TEST_NACOS2_URL", f"nacos://127.0.0.1:{free_port()}")
        with pytest.raises(ServiceError, match=r"SOFA_TEST_NACOS2_URL names .* ConnectionRefusedError"):
            find_service("nacos2")
        monkeypatch.setenv("SOFA_TEST_NACOS2_URL", "nacos2://127.0.0.1:8848")
        with pytest.raises(ServiceError, match="has to look like nacos://HOST:8848"):
            find_service("nacos2")

    def test_a_server_of_the_other_line_is_not_taken_for_this_one(self, nacos2_service: Service) -> None:
        trouble = nacos.product(3).probe(*nacos2_service.address, 5.0)
        assert trouble == "it answered /nacos/v3/admin/core/state/readiness with status 404"


def reach(service: Service, proxy: NetProxy) -> None:
    assert service.product.probe(proxy.host, proxy.port, 5.0) == ""
    with socket.create_connection((proxy.host, proxy.port + GRPC), timeout=5) as connection:
        # The preface and the empty settings of HTTP/2; the server answers with settings of its own, which are a type 4.
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert connection.recv(9, socket.MSG_WAITALL)[3] == 4


class TestAccounts:
    PASSWORD = "p/w d:ä@"

    def test_a_password_is_wanted_and_outlives_a_restart(self, own_nacos: OwnNacos) -> None:
        service = own_nacos(password=self.PASSWORD)
        assert service.url == f"nacos://nacos:{quote(self.PASSWORD, safe='')}@{service.host}:{service.port}"
        assert self.PASSWORD not in repr(service)
        assert b"accessToken" in post(service, LOGIN, {"username": nacos.USER, "password": self.PASSWORD})
        with pytest.raises(HTTPError, match=r"403|500"):
            post(service, LOGIN, {"username": nacos.USER, "password": "wrong"})
        with pytest.raises(HTTPError, match="403"):
            put(service, 3, "key")
        service.restart()
        assert b"accessToken" in post(service, LOGIN, {"username": nacos.USER, "password": self.PASSWORD})

    def test_line_2_has_none(self) -> None:
        with pytest.raises(ValueError, match=r"Nacos 2\.2\.4 of the test kit has no accounts; take line 3"):
            nacos.product(2, password="secret")


class TestFetching:
    def test_without_java_the_reason_and_the_cure_are_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take_away_programs(monkeypatch, tmp_path)
        with pytest.raises(ServiceUnavailable, match="apt-get install maven default-jdk-headless") as caught:
            find_service("nacos", own=True)
        assert "no java on the PATH or in JAVA_HOME" in caught.value.reason
        assert "SOFA_TEST_NACOS_URL=nacos://HOST:8848" in caught.value.remedy

    def test_without_maven_and_a_compiler_both_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        take_away_programs(monkeypatch, tmp_path, "java")
        with pytest.raises(ServiceUnavailable, match=r"no mvn and no javac on the PATH to fetch Nacos 2\.2\.4"):
            find_service("nacos2", own=True)

    def test_what_maven_says_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        take_away_programs(monkeypatch, tmp_path, "java", "javac", "mvn")
        (tmp_path / "mvn").write_text("#!/bin/sh\necho '[ERROR] no route to Maven Central'\nexit 1\n")
        with pytest.raises(ServiceUnavailable, match=r"mvn failed on Nacos 3\..*no route to Maven Central"):
            find_service("nacos", own=True)

    @pytest.fixture
    def fetched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
        """How often a Maven that gives one jar, slowly, has been called."""
        programs = os.environ["PATH"]
        take_away_programs(monkeypatch, tmp_path, "java", "javac", "mvn")
        monkeypatch.setenv("PATH", f"{tmp_path}:{programs}")
        (tmp_path / "mvn").write_text(
            f"#!/bin/sh\necho >>{tmp_path}/calls\nsleep 0.3\nmkdir jars\ntouch jars/hessian-4.0.jar\n"
        )
        (tmp_path / "javac").write_text("#!/bin/sh\nmkdir main\n")
        return lambda: len((tmp_path / "calls").read_text().splitlines())

    def test_several_at_a_time_fetch_once(self, fetched: Callable[[], int]) -> None:
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(class_path(LINES[2]))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert fetched() == 1
        assert len(found) == 4
        assert len(set(found)) == 1

    def test_a_fetch_that_failed_half_way_is_begun_again(self, fetched: Callable[[], int], tmp_path: Path) -> None:
        (tmp_path / "javac").write_text("#!/bin/sh\necho no memory\nexit 1\n")
        with pytest.raises(FetchFailed, match=r"javac failed on Nacos 2\.2\.4: no memory"):
            class_path(LINES[2])
        (tmp_path / "javac").write_text("#!/bin/sh\nmkdir main\n")
        assert "hessian-4.0.jar" in class_path(LINES[2])
        assert fetched() == 2

    def test_a_cache_that_cannot_be_written_is_named(
        self, fetched: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(FetchFailed, match=r"Nacos 2\.2\.4 cannot be kept in .*Not a directory"):
            class_path(LINES[2])


def test_a_database_that_was_only_begun_is_made_again(tmp_path: Path) -> None:
    """The server that made it ended too early: no other one starts on it."""
    drop_half_made(tmp_path)
    database = tmp_path / "data" / "derby-data"
    (database / "seg0").mkdir(parents=True)
    (database / "service.properties").touch()
    drop_half_made(tmp_path)
    assert database.exists()
    (database / "service.properties").unlink()
    drop_half_made(tmp_path)
    assert not database.exists()
