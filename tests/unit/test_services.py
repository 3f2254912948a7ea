"""Real servers, found, started and hurt."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sofa_registry_adapters.testing.faults import NetProxy, eventually, free_port
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import (
    ABILITIES,
    PRODUCTS,
    Service,
    ServiceError,
    ServiceUnavailable,
    find_service,
    local,
)
from sofa_registry_adapters.testing.services.container import SWITCH

pytest_plugins = ["pytester"]


def redis_says(service: Service, *words: str) -> bytes:
    with socket.create_connection(service.address, timeout=5) as connection:
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(4096)


def zookeeper_with(service: Service, work: Callable[..., object]) -> object:
    kazoo = pytest.importorskip("kazoo.client")
    client = kazoo.KazooClient(f"{service.host}:{service.port}", timeout=4)
    client.start(10)
    try:
        return work(client)
    finally:
        client.stop()
        client.close()


def create_with_ttl(service: Service, path: str) -> int:
    """The error code of a createTTL request (operation 21), which kazoo does not know."""

    def text(value: str) -> bytes:
        return struct.pack(">i", len(value)) + value.encode()

    def call(request: bytes) -> bytes:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
        return connection.recv(size, socket.MSG_WAITALL)

    everyone = struct.pack(">ii", 1, 31) + text("world") + text("anyone")
    with socket.create_connection(service.address, timeout=5) as connection:
        call(struct.pack(">iqiqi16s", 0, 0, 4000, 0, 16, b""))
        node = text(path) + text("") + everyone + struct.pack(">iq", 5, 60_000)
        reply = call(struct.pack(">ii", 1, 21) + node)
    return int(struct.unpack(">iqi", reply[:16])[2])


def assert_dead(service: Service) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(service.address, timeout=5)


def test_the_shared_redis_answers(redis_service: Service) -> None:
    assert redis_service.url.startswith("redis://")
    assert redis_says(redis_service, "PING") == b"+PONG\r\n"


def test_the_shared_zookeeper_answers(zookeeper_service: Service) -> None:
    assert zookeeper_service.url.startswith("zookeeper://")
    assert zookeeper_service.check_alive() == ""


def test_an_own_redis_can_do_everything(own_redis: OwnService) -> None:
    assert own_redis().abilities == ABILITIES
    assert own_redis() is own_redis()
    assert own_redis(persistent=True) is not own_redis()


def test_redis_is_killed_and_comes_back_empty_on_the_same_port(own_redis: OwnService) -> None:
    redis = own_redis()
    url = redis.url
    redis_says(redis, "SET", "a", "1")
    redis.kill()
    assert_dead(redis)
    redis.start()
    assert redis.url == url
    assert redis_says(redis, "GET", "a") == b"$-1\r\n"


def test_a_persistent_redis_keeps_its_data_until_it_is_wiped(own_redis: OwnService) -> None:
    redis = own_redis(persistent=True)
    redis_says(redis, "SET", "a", "1")
    redis.restart()
    assert redis_says(redis, "GET", "a") == b"$1\r\n1\r\n"
    redis.wipe()
    assert redis_says(redis, "GET", "a") == b"$-1\r\n"


def test_a_stopped_redis_is_gone(own_redis: OwnService) -> None:
    redis = own_redis()
    redis.stop()
    assert_dead(redis)
    redis.stop()
    redis.kill()
    assert own_redis().check_alive() == ""


def test_a_frozen_redis_accepts_but_does_not_answer(own_redis: OwnService) -> None:
    redis = own_redis()
    redis.pause()
    assert "TimeoutError" in redis.check_alive()
    redis.resume()
    assert redis.check_alive() == ""
    redis.pause()
    redis.kill()
    assert_dead(redis)


def test_zookeeper_keeps_its_data_over_a_kill_and_a_restart(own_zookeeper: OwnService) -> None:
    zookeeper = own_zookeeper()
    path = f"/{uuid.uuid4().hex}"
    zookeeper_with(zookeeper, lambda client: client.create(path, b"kept"))
    zookeeper.kill()
    assert_dead(zookeeper)
    zookeeper.start()
    assert zookeeper_with(zookeeper, lambda client: client.get(path)[0]) == b"kept"
    zookeeper.restart()
    assert zookeeper_with(zookeeper, lambda client: client.get(path)[0]) == b"kept"


def test_zookeeper_is_frozen_goes_on_and_is_wiped(own_zookeeper: OwnService) -> None:
    zookeeper = own_zookeeper()
    path = f"/{uuid.uuid4().hex}"
    zookeeper_with(zookeeper, lambda client: client.create(path, b"lost"))
    zookeeper.pause()
    assert "TimeoutError" in zookeeper.check_alive()
    zookeeper.resume()
    assert zookeeper_with(zookeeper, lambda client: client.exists(path))
    zookeeper.wipe()
    assert zookeeper_with(zookeeper, lambda client: client.exists(path)) is None


def test_zookeeper_has_extended_types_and_all_commands(own_zookeeper: OwnService) -> None:
    zookeeper = own_zookeeper()
    with socket.create_connection(zookeeper.address, timeout=5) as connection:
        connection.sendall(b"ruok")
        assert connection.recv(10) == b"imok"
    assert create_with_ttl(zookeeper, f"/{uuid.uuid4().hex}") == 0


def test_a_proxy_takes_the_address_of_a_server(redis_service: Service) -> None:
    with NetProxy(redis_service.address) as proxy:
        there = (proxy.host, proxy.port)
        with socket.create_connection(there, timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(10) == b"+PONG\r\n"


class TestFinding:
    @pytest.fixture(autouse=True)
    def no_container(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
        for name in ("SOFA_TEST_REDIS_URL", "SOFA_TEST_ZOOKEEPER_URL", "SOFA_TEST_REDIS_IMAGE", SWITCH):
            monkeypatch.delenv(name, raising=False)

    def test_the_environment_comes_first_and_its_server_is_not_ours_to_hurt(
        self, redis_service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"redis://user:secret@{redis_service.host}:{redis_service.port}/3"
        monkeypatch.setenv("SOFA_TEST_REDIS_URL", url)
        found = find_service("redis")
        assert (found.url, found.address, found.abilities) == (url, redis_service.address, frozenset())
        assert "secret" not in repr(found)
        for verb in ("kill", "stop", "start", "restart", "pause", "resume", "wipe"):
            with pytest.raises(ServiceError, match="own_redis"):
                getattr(found, verb)()
        found.close()
        assert redis_service.check_alive() == ""

    def test_the_first_of_several_hosts_is_probed(
        self, zookeeper_service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"zookeeper://127.0.0.1:{zookeeper_service.port},127.0.0.1:1/root"
        monkeypatch.setenv("SOFA_TEST_ZOOKEEPER_URL", url)
        assert find_service("zookeeper").address == ("127.0.0.1", zookeeper_service.port)

    def test_a_dead_server_of_the_environment_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOFA_TEST_REDIS_URL", f"redis://:secret@127.0.0.1:{free_port()}")
        with pytest.raises(ServiceError, match=r"SOFA_TEST_REDIS_URL names .* ConnectionRefusedError") as caught:
            find_service("redis")
        assert not isinstance(caught.value, ServiceUnavailable)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("url", ("localhost:6379", "http://localhost", "redis://", "redis://h:port"))
    def test_a_wrong_url_is_an_error_that_does_not_show_it(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOFA_TEST_REDIS_URL", url)
        with pytest.raises(ServiceError, match="has to look like redis://HOST:6379"):
            find_service("redis")

    @pytest.mark.parametrize("name", ("redis", "zookeeper"))
    def test_without_any_server_the_reason_and_the_cure_are_told(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("JAVA_HOME", raising=False)
        with pytest.raises(ServiceUnavailable, match=f"apt-get install {name}") as caught:
            find_service(name)
        assert f"SOFA_TEST_{name.upper()}_URL is not set" in caught.value.reason
        assert "on the PATH" in caught.value.reason

    def test_where_containers_are_required_nothing_else_is_taken(
        self, redis_service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOFA_TEST_REDIS_URL", f"redis://{redis_service.host}:{redis_service.port}")
        monkeypatch.setenv(SWITCH, "required")
        for own in (False, True):
            with pytest.raises(
                ServiceUnavailable, match="no container daemon answers, and SOFA_TEST_CONTAINERS is req"
            ):
                find_service("redis", own=own)

    def test_containers_may_be_switched_off(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv(SWITCH, "off")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ServiceUnavailable, match="SOFA_TEST_CONTAINERS is off, no redis-server on the PATH"):
            find_service("redis")
        monkeypatch.setenv(SWITCH, "of")
        with pytest.raises(ServiceError, match="auto, required or off, not 'of'"):
            find_service("redis")

    def test_an_image_may_be_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert PRODUCTS["redis"].image_name == "redis:latest"
        monkeypatch.setenv("SOFA_TEST_REDIS_IMAGE", "valkey/valkey:8")
        assert PRODUCTS["redis"].image_name == "valkey/valkey:8"
        assert "docker pull valkey/valkey:8" in PRODUCTS["redis"].remedy

    def test_an_unknown_product_is_named(self) -> None:
        with pytest.raises(
            ServiceError, match="no product is called 'consul'; there are redis, zookeeper, etcd, etcd36, nacos, nacos2"
        ):
            find_service("consul")

    def test_a_server_that_does_not_start_shows_its_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = tmp_path / "redis-server"
        broken.write_text("#!/bin/sh\necho no memory for you\nexit 3\n")
        broken.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(ServiceError, match=r"(?s)status 3.*no memory for you"):
            find_service("redis")

    @pytest.mark.parametrize("times", (1, 2))
    def test_a_server_that_stumbles_is_started_once_more(
        self, own_redis: OwnService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        own_redis()  # skips without a server
        real, stumbles = shutil.which("redis-server"), tmp_path / "stumbles"
        stumbling = tmp_path / "redis-server"
        stumbling.write_text(
            f"#!/bin/sh\nif [ $(wc -c <{stumbles}) -lt {times} ]; then printf x >>{stumbles}; echo I am slow today; exit 1; fi\n"
            f'exec {real} "$@"\n'
        )
        stumbling.chmod(0o755)
        stumbles.touch()
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setitem(PRODUCTS, "redis", replace(PRODUCTS["redis"], stumbles="slow today"))
        if times > 1:
            with pytest.raises(ServiceError, match="slow today"):
                find_service("redis", own=True)
        else:
            find_service("redis", own=True).close()

    def test_a_taken_port_is_exchanged_for_another(
        self, own_redis: OwnService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own_redis()  # skips without a server
        free = free_port()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ports = iter([taken.getsockname()[1], free])
            monkeypatch.setattr(local, "free_port", lambda *_: next(ports))
            with find_service("redis", own=True) as redis:
                assert redis.port == free

    def test_data_and_process_are_gone_after_close(self, own_redis: OwnService) -> None:
        own_redis()  # skips without a server
        redis = find_service("redis", own=True)
        place = redis._root  # type: ignore[attr-defined]
        assert place.exists()
        redis.close()
        redis.close()
        assert not place.exists()
        assert_dead(redis)


def test_a_server_dies_with_a_killed_test_run(own_redis: OwnService, tmp_path: Path) -> None:
    own_redis()  # skips without a server
    program = (
        "from sofa_registry_adapters.testing.services import find_service\n"
        "service = find_service('redis', own=True)\n"
        "print(service.port, flush=True)\n"
        "input()\n"
    )
    # A killed run cannot remove its directory.
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock", "TMPDIR": str(tmp_path)}
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert run.stdin
    assert run.stdout
    with run.stdin, run.stdout:
        port = int(run.stdout.readline())
        run.kill()
        run.wait(10)
        eventually(lambda: not answers(port), message="the server outlived the run that started it")


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


class TestPlugin:
    @pytest.fixture(autouse=True)
    def bare_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
        monkeypatch.delenv("SOFA_TEST_REDIS_URL", raising=False)
        monkeypatch.delenv(SWITCH, raising=False)

    @pytest.fixture
    def run(self, pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
        pytester.makepyfile("def test_it(redis_service): pass\ndef test_own(own_redis): own_redis()")
        return lambda *options: pytester.runpytest_inprocess("-p", "sofa_registry_adapters.testing.plugin", *options)

    def test_without_a_server_tests_are_skipped_and_the_end_says_how_to_get_one(
        self, run: Callable[..., pytest.RunResult]
    ) -> None:
        result = run("-rs")
        result.assert_outcomes(skipped=2)
        result.stdout.fnmatch_lines(["*= services =*", "redis *none: *To get one: apt-get install redis-server*"])

    def test_a_run_on_several_processes_says_it_as_well(self, run: Callable[..., pytest.RunResult]) -> None:
        result = run("-n", "1")
        result.assert_outcomes(skipped=2)
        result.stdout.fnmatch_lines(["*= services =*", "redis * none: *To get one: *", "2 tests were skipped*"])

    @pytest.mark.parametrize("option", ("--require-services", "--require-services=redis,zookeeper"))
    def test_a_required_server_that_is_missing_fails_the_test(
        self, run: Callable[..., pytest.RunResult], option: str
    ) -> None:
        result = run(option)
        result.assert_outcomes(errors=1, failed=1)
        result.stdout.fnmatch_lines(["*apt-get install redis-server*(required by --require-services)*"])

    def test_a_server_that_is_not_required_may_be_missing(self, run: Callable[..., pytest.RunResult]) -> None:
        run("--require-services=zookeeper").assert_outcomes(skipped=2)

    def test_a_dead_server_of_the_environment_fails_the_test(
        self, run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOFA_TEST_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
        result = run("-k", "test_it")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["redis *failed: SOFA_TEST_REDIS_URL names*"])

    def test_a_wrong_name_is_refused(self, run: Callable[..., pytest.RunResult]) -> None:
        result = run("--require-services=reddis")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*no server is called 'reddis'*did you mean redis?*"])
