"""What doctor says of wrong set-ups, each made for real, and what `--fix` removes and what it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kazoo.client import KazooClient

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.memory.spaces import Space, space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.backends.zookeeper.diagnosing import server_version
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.cli.doctor import command, reaching
from sofa_registry_adapters.cli.doctor.access import PROBE
from sofa_registry_adapters.cli.doctor.examination import Wish, examine
from sofa_registry_adapters.cli.doctor.findings import Finding, Report, exit_code
from sofa_registry_adapters.cli.doctor.reaching import is_forbidden, reach
from sofa_registry_adapters.cli.doctor.repair import Outcome, Repair, parse_name
from sofa_registry_adapters.cli.doctor.setting import read_setting
from sofa_registry_adapters.cli.doctor.strangers import Stranger, recognised
from sofa_registry_adapters.errors import Unsupported
from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.diagnosis import Diagnosis, is_older
from sofa_registry_adapters.spi.options import Address
from sofa_registry_adapters.spi.store import Record, RecordKey
from sofa_registry_adapters.testing.faults import NetProxy, eventually, free_port, python_process
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service

HELLO = ServiceKey("com.acme.Hello", "1.0")
BUCKET = ("services", HELLO.segment)
SECRET = "s3cret-canary"
TIMEOUT = 2.0
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "how-to" / "when-things-go-wrong.md"


class QuickClock(SystemClock):
    """Does not wait, and may be off."""

    def __init__(self, off_ms: int = 0) -> None:
        self.off_ms = off_ms
        self.slept: list[float] = []

    def wall_ms(self) -> int:
        return super().wall_ms() + self.off_ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def _home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("SOFA_REGISTRY_URL", raising=False)


def report_on(url: str | None, **wish: Any) -> Report:
    return command.run(examine(Wish(url, **{"timeout": TIMEOUT, **wish}), QuickClock()))


def only(url: str | None, **wish: Any) -> Finding:
    """The one finding, which ended the examination."""
    report = report_on(url, **wish)
    (finding,) = report.findings
    assert (report.steps[-1].step, report.steps[-1].good) == (finding.step, False)
    assert SECRET not in str(report)
    return finding


def codes(report: Report) -> list[str]:
    return [one.code for one in report.findings]


def is_documented(finding: Finding) -> bool:
    """Whether the page about wrong set-ups has this sentence, ports, folders and waits aside."""
    said = f"{finding.severity}: {finding.where or finding.step}: {finding.sentence}\n"
    return plain(said) in plain(PAGE.read_text(encoding="utf-8"))


def plain(text: str) -> str:
    text = re.sub(r"(127\.0\.0\.1|192\.0\.2\.\d+):\d+", "ADDRESS", text)
    text = re.sub(r"/\S*/registry\.db", "registry.db", text)
    # Each backend and each plug-in adds to the list.
    text = re.sub(
        r"backend for the URL scheme '(\w+)'(.*?) Known are [\w+, ]+", r"backend for the URL scheme '\1'\2", text
    )
    return re.sub(r"within [\d.]+ s", "within some s", text)


def fresh(service: Service, **options: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in {"namespace": uuid.uuid4().hex, **options}.items())
    return f"{service.name}://{service.host}:{service.port}?{query}"


# Settings.


@pytest.mark.parametrize(
    ("url", "code", "said"),
    (
        ("redsi://h", "unknown-scheme", "no backend for the URL scheme 'redsi': did you mean 'redis'?"),
        ("redis://h?leas=3", "unknown-option", "redis:// has no option 'leas': did you mean 'lease'?"),
        (f"redis://u:{SECRET}@h:port", "wrong-url", "is not a number from 1 to 65535"),
        ("local://x?layout=nativ", "wrong-url", "no layout is called 'nativ': did you mean 'native'?"),
        ("127.0.0.1:6379", "wrong-url", "is not a registry URL: write scheme://"),
    ),
)
def test_a_url_that_cannot_be_used(url: str, code: str, said: str) -> None:
    finding = only(url)
    assert (finding.step, finding.code, finding.severity) == ("settings", code, "error")
    assert said in finding.sentence
    assert finding.sentence.endswith("Correct it where it was given: the argument.")
    assert is_documented(finding) is (code in ("unknown-option", "unknown-scheme"))


def test_the_source_of_a_wrong_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFA_REGISTRY_URL", "redsi://h")
    assert (
        "where it was given: the variable SOFA_REGISTRY_URL"
        in command.run(examine(Wish(), QuickClock())).findings[0].sentence
    )


@pytest.fixture
def file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where ``sofa-registry.toml`` is read from."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sofa-registry.toml"


def test_the_entry_of_the_file_is_named(file: pathlib.Path) -> None:
    file.write_text(f'[registry.orders]\nurl = "local://{file.parent}/registry.db"\n')
    report = report_on("orders")
    assert "from [registry.orders] in sofa-registry.toml" in report.steps[0].seen
    assert not report.findings
    file.write_text('[registry.orders]\nurl = "redis://h?leas=3"\n')
    assert only("orders").advice == "Correct it where it was given: [registry.orders] in sofa-registry.toml."
    assert only("ordres").what.startswith("no registry is called 'ordres': did you mean 'orders'?")


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("[registry", "sofa-registry.toml cannot be read"),
        ("[registry.orders]\nulr = 'x'", "has no key 'ulr': did you mean 'url'?"),
        ("[registry.orders]\nurl = 'redis://:${REDIS_PASSWORD}@h'", "which is not set, or empty"),
    ),
)
def test_a_file_that_is_wrong(file: pathlib.Path, text: str, said: str) -> None:
    file.write_text(text)
    finding = only("orders")
    assert (finding.step, finding.code) == ("settings", "wrong-url")
    assert said in finding.sentence
    assert is_documented(finding) is ("orders" in text)


@pytest.mark.parametrize(
    ("entry", "mode", "warned"),
    (
        (f'url = "redis://app:{SECRET}@127.0.0.1:1"', 0o644, True),
        (f'url = "redis://:{SECRET}${{FILLED}}@127.0.0.1:1"', 0o604, True),
        (f'url = "redis://app:{SECRET}@127.0.0.1:1"', 0o600, False),
        (f'url = "redis://app:{SECRET}@127.0.0.1:1"', 0o640, False),
        ('url = "redis://app:${FILLED}@127.0.0.1:1"', 0o644, False),
        ('url = "redis://app@127.0.0.1:1"', 0o644, False),
    ),
)
def test_a_password_that_everybody_may_read(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch, entry: str, mode: int, *, warned: bool
) -> None:
    monkeypatch.setenv("FILLED", SECRET)
    file.write_text(f"[registry.orders]\n{entry}\n")
    file.chmod(mode)
    report = report_on("orders")
    assert (codes(report)[:1] == ["readable-secret"]) is warned
    assert report.steps[0].good is not warned
    assert SECRET not in str(report)
    if warned:
        assert is_documented(report.findings[0])
        assert report.findings[0].severity == "warning"
        assert report.steps[-1].step == "tcp", "it goes on"


@pytest.mark.parametrize(("library", "scheme"), (("redis", "redis"), ("kazoo", "zookeeper")))
def test_a_missing_client_library(library: str, scheme: str) -> None:
    blocked = textwrap.dedent(f"""
        import sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name == {library!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Blocked())
        from sofa_registry_adapters.cli import main
        sys.exit(main(["doctor", "--url", "{scheme}://h"]))
    """)
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    said = f"{scheme}:// needs the library '{library}', which is not installed"
    cure = f"Install it: pip install 'sofa-registry-adapters[{scheme}]'"
    assert f"error: settings: {said}. {cure}\n" in done.stdout
    assert scheme != "redis" or f"error: settings: {said}. {cure}\n" in PAGE.read_text(encoding="utf-8")


# Name, TCP, TLS.


def test_an_unknown_host() -> None:
    finding = only("redis://registry.invalid")
    assert (finding.step, finding.code) == ("name", "unknown-host")
    assert "no address is known for the host 'registry.invalid'" in finding.sentence
    assert "Correct the host in the URL" in finding.sentence
    assert is_documented(finding)


def test_name_servers_that_give_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> list[str]:
        raise TimeoutError

    monkeypatch.setattr("sofa_registry_adapters.cli.doctor.network.resolve", hang)
    assert "the name servers gave no answer about 'h' within 2 s" in only("redis://h").sentence


@pytest.mark.parametrize(("scheme", "port"), (("redis", 6379), ("zookeeper", 2181)))
def test_a_server_that_is_down(scheme: str, port: int) -> None:
    chosen = free_port()
    finding = only(f"{scheme}://127.0.0.1:{chosen}")
    assert (finding.step, finding.code) == ("tcp", "refused")
    assert finding.sentence == (
        f"127.0.0.1:{chosen} refuses connections: nothing listens on that port. Start the server, "
        f"or correct the port in the URL ({scheme}:// means {port} without one)."
    )
    assert is_documented(finding) is (scheme == "redis")


def test_one_server_of_several_that_is_down_is_a_warning(zookeeper_service: Service) -> None:
    port = free_port()
    url = f"zookeeper://127.0.0.1:{port},{zookeeper_service.host}:{zookeeper_service.port}?namespace={uuid.uuid4().hex}"
    report = report_on(url)
    assert [(one.severity, one.code) for one in report.findings] == [("warning", "refused")]
    assert report.steps[-1].step == "records"


def test_a_host_that_swallows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    # A full queue of a listener that accepts nobody: the next handshake gets no answer.
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            caller = held.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        finding = only(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=0.5)
    assert (finding.step, finding.code) == ("tcp", "no-answer")
    assert "gave no answer to a connection attempt within 0.5 s. Its host is down, or a firewall" in finding.sentence


def test_tls_against_a_plain_port(redis_service: Service) -> None:
    finding = only(f"rediss://{redis_service.host}:{redis_service.port}")
    assert (finding.step, finding.code) == ("tls", "no-tls")
    assert "does not speak TLS: without it, it answers like a Redis server" in finding.sentence
    assert "Write redis:// instead of rediss://" in finding.sentence
    assert is_documented(finding)


@pytest.fixture
def tls(tmp_path: pathlib.Path) -> Iterator[tuple[int, pathlib.Path]]:
    if not (shutil.which("openssl") and shutil.which("redis-server")):
        pytest.skip("no openssl and redis-server programs on this machine")
    key_file, certificate, port = tmp_path / "key", tmp_path / "certificate", free_port()
    make_key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=x"
    subprocess.run(
        [*make_key.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key_file, "-out", certificate],
        check=True,
        capture_output=True,
    )
    files = f"--tls-cert-file {certificate} --tls-key-file {key_file} --tls-ca-cert-file {certificate}"
    command_line = f"redis-server --port 0 --tls-port {port} --tls-auth-clients no {files} --save '' --dir {tmp_path}"
    server = subprocess.Popen(shlex.split(command_line), stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: answers(port, certificate), 10.0, "a server with TLS")
        yield port, certificate
    finally:
        server.kill()
        server.wait()


def answers(port: int, certificate: pathlib.Path) -> bool:
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 1) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        return True
    return False


def test_tls(tls: tuple[int, pathlib.Path]) -> None:
    port, certificate = tls
    good = report_on(f"rediss://localhost:{port}?ca={certificate}")
    assert codes(good) == []
    assert next(one.seen for one in good.steps if one.step == "tls").startswith("TLSv1")
    unsigned = only(f"rediss://localhost:{port}")
    assert "is not accepted: self-signed certificate" in unsigned.sentence
    assert "with the option ca" in unsigned.sentence
    assert "IP address mismatch" in only(f"rediss://127.0.0.1:{port}?ca={certificate}").sentence
    assert only(f"rediss://localhost:{port}?ca=/nowhere").code == "certificate-file"
    plain = only(f"redis://localhost:{port}")
    assert "speaks TLS, and redis:// does not. Write rediss:// instead." in plain.sentence


# Signing in.


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


# Permission.


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


# Version and clock.


class OtherStore(MemoryStore):
    """A store whose product says what a test wants."""

    said = Diagnosis()

    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        return self.said


def report_of_product(said: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(OtherStore, "said", said)
    monkeypatch.setattr("sofa_registry_adapters.backends.memory.store.MemoryStore", OtherStore)
    return report_on(f"memory://{uuid.uuid4().hex}")


def test_an_old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of_product(Diagnosis(server="Redis 4.0.14", needs="Redis 5"), monkeypatch)
    (finding,) = report.findings
    assert finding.sentence == "the server is Redis 4.0.14, and Redis 5 is needed. Upgrade the server."


def test_a_server_that_is_too_old_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Unsupported("the server does not know the request")

    monkeypatch.setattr(OtherStore, "read", refuse)
    report = report_of_product(Diagnosis(server="ZooKeeper 3.4.14", needs="ZooKeeper 3.6"), monkeypatch)
    (finding,) = report.findings
    assert (finding.step, finding.code, report.steps[-1].step) == ("version", "old-server", "version")
    assert "the server is ZooKeeper 3.4.14, and ZooKeeper 3.6 is needed" in finding.sentence


@pytest.mark.parametrize(
    ("version", "older"),
    (("3.4.14", True), ("3.5", True), ("3.6.0", False), ("3.10.1", False), ("4", False), ("", False), ("x", False)),
)
def test_versions_are_compared_as_numbers(version: str, older: bool) -> None:
    assert is_older(version, (3, 6)) is older


def test_the_servers_tell_their_versions(
    redis_service: Service, zookeeper_service: Service, etcd_service: Service
) -> None:
    servers = ((redis_service, "Redis "), (zookeeper_service, "ZooKeeper 3."), (etcd_service, "etcd 3."))
    for service, begin in servers:
        report = report_on(fresh(service))
        assert next(one.seen for one in report.steps if one.step == "version").startswith(begin)


def test_an_old_zookeeper_is_known_by_its_greeting() -> None:
    async def old(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Zookeeper version: 3.4.14-4c25d48, built on 03/06/2019 16:18 GMT\nLatency min/avg/max: 0/0/0\n")
        writer.close()

    async def check() -> str:
        server = await asyncio.start_server(old, "127.0.0.1", 0)
        async with server:
            return await server_version(Address("127.0.0.1", server.sockets[0].getsockname()[1]))

    assert asyncio.run(check()) == "3.4.14"


def test_a_configuration_that_endangers_registrations(own_redis: OwnService) -> None:
    service = own_redis()
    client = redis.Redis(host=service.host, port=service.port)
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        (finding,) = report_on(fresh(service)).findings
    finally:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert "its maxmemory-policy is allkeys-lru, which may evict registrations" in finding.sentence


@pytest.mark.parametrize("product", ("redis", "zookeeper"))
@pytest.mark.parametrize(("off", "said"), ((-3600_000, "3600 s ahead of"), (60_000, "60 s behind")))
def test_a_clock_that_is_off(product: str, off: int, said: str, request: pytest.FixtureRequest) -> None:
    url = fresh(request.getfixturevalue(f"{product}_service"))
    report = command.run(examine(Wish(url, timeout=TIMEOUT), QuickClock(off)))
    (finding,) = report.findings
    assert (finding.severity, finding.step, finding.code) == ("warning", "clock", "clock-skew")
    assert f"the server's clock is {said} this machine's. Set both by NTP" in finding.sentence


@pytest.mark.parametrize("off", (-4_000, 4_000))
def test_clocks_that_differ_by_little_are_fine(off: int, redis_service: Service) -> None:
    report = command.run(examine(Wish(fresh(redis_service), timeout=TIMEOUT), QuickClock(off)))
    assert codes(report) == []


# Records.


def value_of(address: str = "10.0.0.7:80", **fields: Any) -> bytes:
    return NativeLayout().record(HELLO, Instance.of(address, **fields)).value


@pytest.fixture
def room() -> tuple[str, Space]:
    name = uuid.uuid4().hex
    return f"memory://{name}", space(name)


def put(place: Space, name: str, value: bytes, *, owned: bool = True, owner: str = "foreign") -> RecordKey:
    place.write_behind(Record(BUCKET, name, value, owned=owned), owner)
    return RecordKey(BUCKET, name)


def finding_of(report: Report, code: str) -> Finding:
    (finding,) = [one for one in report.findings if one.code == code]
    assert finding.step == "records"
    assert finding.service == str(HELLO)
    return finding


def test_a_record_that_cannot_be_decoded(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", b"{not json", owned=False)
    report = report_on(url)
    assert finding_of(report, "no-owner").advice == "Nobody but you can remove it."
    finding = finding_of(report, "undecodable")
    assert (finding.severity, finding.where) == ("error", "com.acme.Hello:1.0/10.0.0.7:80")
    assert "the record cannot be decoded" in finding.sentence
    assert "Consumers leave it out" in finding.sentence


def test_a_record_whose_id_is_another_and_one_id_twice(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of())
    put(place, "10.0.0.8:80", value_of())
    report = report_on(url)
    assert "the record '10.0.0.8:80' says that its id is '10.0.0.7:80'" in finding_of(report, "misnamed").sentence
    said = finding_of(report, "same-id").sentence
    assert "2 records have the same id '10.0.0.7:80': '10.0.0.7:80', '10.0.0.8:80'" in said


def test_a_record_without_an_owner(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of(), owned=False)
    finding = finding_of(report_on(url), "no-owner")
    assert finding.severity == "warning"
    assert "the record '10.0.0.7:80' has no owner: it stays when its instance ends" in finding.sentence
    assert "--fix --record 'com.acme.Hello:1.0/10.0.0.7:80'" in finding.sentence


@pytest.mark.parametrize("off", ({"enabled": False}, {"weight": 0}))
def test_all_instances_disabled(room: tuple[str, Space], off: dict[str, Any]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of(**off))
    put(place, "10.0.0.8:80", value_of("10.0.0.8:80", **off))
    assert "all its 2 instances are disabled or of weight 0" in finding_of(report_on(url), "all-disabled").sentence
    put(place, "10.0.0.9:80", value_of("10.0.0.9:80"))
    assert "all-disabled" not in codes(report_on(url))


def leaving_value() -> bytes:
    return value_of().replace(b'"port":80', b'"port":80,"state":"leaving"')


def test_a_record_that_has_been_leaving_for_a_minute(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", leaving_value())
    clock = QuickClock()
    told: list[str] = []
    report = command.run(examine(Wish(url, tell=told.append), clock))
    assert clock.slept == [60.0]
    assert told == ["1 record leaving, to be looked at again in 60 s"]
    assert "has been leaving for longer than a minute" in finding_of(report, "leaving").sentence


def test_a_record_that_leaves_in_good_order_is_fine(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", leaving_value())

    class Leaving(QuickClock):
        async def sleep(self, seconds: float) -> None:
            place.delete_behind(key)

    assert "leaving" not in codes(command.run(examine(Wish(url), Leaving())))


def outside_address() -> str:
    """An address of this machine that is no loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        host = str(probe.getsockname()[0])
    if host.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return host


def test_loopback_addresses_on_a_registry_elsewhere(redis_service: Service) -> None:
    namespace = uuid.uuid4().hex
    with NetProxy(redis_service.address, host=outside_address()) as proxy:
        url = f"redis://{proxy.address}?namespace={namespace}"
        with Registry(url, options={"allow_loopback": True}) as registry:
            registry.publish(str(HELLO), ["127.0.0.1:80", "10.0.0.7:80", "0.0.0.0:80"])
            report = report_on(url)
            assert codes(report) == ["loopback", "loopback"]
            said = {one.record: one.sentence for one in report.findings}
            assert codes(report_on(f"{url}&allow_loopback=yes")) == []
            assert codes(report_on(fresh_like(redis_service, namespace))) == []
    assert (
        "127.0.0.1:80 is another machine for everybody who reads it, and the registry is elsewhere"
        in said["127.0.0.1:80"]
    )


def fresh_like(service: Service, namespace: str) -> str:
    return f"{service.name}://{service.host}:{service.port}?namespace={namespace}"


def test_only_the_services_that_are_named(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", b"{", owned=False)
    other = ServiceKey("other")
    report = report_on(url, services=[other])
    assert [(one.severity, one.service) for one in report.findings] == [("note", "other")]
    assert exit_code(report.findings) == 0


def test_a_bucket_that_is_no_service_is_a_note(room: tuple[str, Space]) -> None:
    url, place = room
    place.write_behind(Record(("services", "a:b:c:d"), "x", b"1"), "foreign")
    report = report_on(url)
    assert codes(report) == ["foreign-bucket"]
    assert exit_code(report.findings) == 0
    assert NativeLayout().service_of(PROBE) is None


# Connecting to instances.


def test_addresses_that_refuse_a_connection(room: tuple[str, Space]) -> None:
    url, place = room
    closed = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        live = listener.getsockname()[1]
        put(place, f"127.0.0.1:{live}", value_of(f"127.0.0.1:{live}"), owned=False)
        put(place, f"127.0.0.1:{closed}", value_of(f"127.0.0.1:{closed}"), owned=False)
        assert "refused" not in codes(report_on(url))
        finding = finding_of(report_on(url, probe=True), "refused")
    assert finding.record == f"127.0.0.1:{closed}"
    assert f"127.0.0.1:{closed} refuses connections: nothing listens there" in finding.sentence


@pytest.mark.parametrize(
    ("ip", "forbidden"),
    (
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:a9fe:a9fe::1", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("10.0.0.7", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
    ),
)
def test_metadata_addresses_are_never_connected_to(ip: str, forbidden: bool) -> None:
    assert is_forbidden(ip) is forbidden


def test_a_name_that_stands_for_a_metadata_address_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[str] = []

    async def resolve(host: str, _: float) -> list[str]:
        return ["169.254.169.254"] if host == "evil" else [host]

    async def connect(ip: str, _: int) -> reaching.Outcome:
        connected.append(ip)
        return "refused"

    monkeypatch.setattr(reaching, "resolve", resolve)
    monkeypatch.setattr(reaching, "_connect", connect)
    places = [("evil", 80), ("169.254.169.254", 80), ("10.0.0.7", 80), ("127.0.0.1", 80)]
    outcomes = command.run(reach(places, here=False))
    assert connected == ["10.0.0.7"]
    assert [outcomes[place] for place in places] == ["not tried", "not tried", "refused", "not tried"]


def test_no_more_than_64_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = most = 0

    async def connect(_: str, __: int) -> reaching.Outcome:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return "open"

    monkeypatch.setattr(reaching, "_connect", connect)
    outcomes = command.run(reach([("10.0.0.1", port) for port in range(1, 300)], here=True))
    assert len(outcomes) == 299
    assert 1 < most <= 64


# Removing.


def repair_of(url: str) -> Repair:
    return Repair(read_setting(url), QuickClock(), TIMEOUT, here=True)


def removed(url: str, report: Report) -> list[Outcome]:
    return command.run(repair_of(url).remove(report.removable))


def test_a_record_whose_owner_is_gone_is_removed(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    assert "belongs to an owner that is gone" in finding_of(report, "owner-gone").sentence
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (True, "its owner is gone")
    assert place.peek(key) is None
    assert codes(report_on(url)) == []


def test_a_record_of_a_living_owner_is_never_removed(room: tuple[str, Space]) -> None:
    url, _ = room
    with Registry(url) as registry:
        registry.publish(str(HELLO), "10.0.0.7:80")
        report = report_on(url)
        assert (report.removable, codes(report)) == ([], [])
        assert len(registry.lookup(str(HELLO))) == 1


def test_a_record_that_changed_since_it_was_shown_is_kept(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    put(place, "10.0.0.7:80", value_of(weight=7))
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "it changed since it was shown")
    assert place.peek(key) is not None


def test_a_record_that_changes_between_the_last_look_and_the_removal_is_kept(
    room: tuple[str, Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    dead = MemoryStore.dead

    async def dead_then_changed(self: MemoryStore, keys: Any) -> Any:
        answer = await dead(self, keys)
        put(place, "10.0.0.7:80", value_of(weight=7))
        return answer

    monkeypatch.setattr(MemoryStore, "dead", dead_then_changed)
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "it changed since it was shown")
    assert place.peek(key) is not None


def test_an_owner_that_is_back_keeps_its_record(room: tuple[str, Space], monkeypatch: pytest.MonkeyPatch) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)

    async def nobody(*_: object) -> list[RecordKey]:
        return []

    monkeypatch.setattr(MemoryStore, "dead", nobody)
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "its owner is back")
    assert place.peek(key) is not None


def test_a_record_that_is_gone_already_is_no_trouble(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    place.delete_behind(key)
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "it is gone already")


def found(url: str, record: str) -> tuple[int, str]:
    removals, kept = command.run(repair_of(url).find([parse_name(f"{HELLO}/{record}")]))
    return len(removals), kept[0].why if kept else ""


def test_a_named_permanent_record_that_points_to_nothing(room: tuple[str, Space]) -> None:
    url, place = room
    port = free_port()
    name = f"127.0.0.1:{port}"
    key = put(place, name, value_of(name), owned=False)
    assert report_on(url).removable == []
    removals, kept = command.run(repair_of(url).find([parse_name(f"{HELLO}/{name}")]))
    assert kept == []
    assert removals[0].why == f"it has no owner, and {name} refuses connections"
    with socket.create_server(("127.0.0.1", port)):
        (outcome,) = command.run(repair_of(url).remove(removals))
        assert (outcome.removed, outcome.why) == (False, f"{name} accepts connections")
    (outcome,) = command.run(repair_of(url).remove(removals))
    assert outcome.removed
    assert place.peek(key) is None


def test_named_records_that_are_kept(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "169.254.1.1:80", value_of("169.254.1.1:80"), owned=False)
    put(place, "10.0.0.7:80", b"{", owned=False)
    put(place, "10.0.0.8:80", value_of("10.0.0.8:80"))
    assert found(url, "10.0.0.7:80") == (
        0,
        "it cannot be decoded, so nobody knows what it points to: delete it by hand",
    )
    assert found(url, "10.0.0.8:80") == (0, "it has an owner, which removes it")
    assert found(url, "10.0.0.9:80") == (0, "there is no such record")
    assert found(url, "169.254.1.1:80")[1].endswith("doctor never connects, so nothing is proven")


def test_redis_knows_an_owner_without_a_lease(redis_service: Service) -> None:
    namespace = uuid.uuid4().hex
    url = f"{fresh_like(redis_service, namespace)}&lease=60"
    with Registry(url) as registry:
        registry.publish(str(HELLO), "10.0.0.7:80")
        head = f"sofa:{{{namespace}/services/{HELLO.segment}}}:"
        with redis.Redis(host=redis_service.host, port=redis_service.port) as client:
            record = client.hget(head + "records", "10.0.0.7:80")
            other = record.replace(record.partition(b"\x1f")[0], b"0123456789abcdef")
            other = other.replace(b"10.0.0.7", b"10.0.0.8")
            client.hset(head + "records", "10.0.0.8:80", other)
        report = report_on(url)
        assert [one.record for one in report.removable] == ["10.0.0.8:80"]
        (outcome,) = removed(url, report)
        assert outcome.removed
        assert [one.address for one in registry.lookup(str(HELLO))] == ["10.0.0.7:80"]


def test_an_owner_on_redis_that_lives_without_its_lease_writes_again(redis_service: Service) -> None:
    namespace = uuid.uuid4().hex
    url = f"{fresh_like(redis_service, namespace)}&lease=60"
    with Registry(url) as registry, redis.Redis(host=redis_service.host, port=redis_service.port) as client:
        registry.publish(str(HELLO), "10.0.0.7:80")
        leases = f"sofa:{{{namespace}/services/{HELLO.segment}}}:leases"

        def is_taken_for_dead() -> bool:
            client.delete(leases)
            report = report_on(url)
            return any(one.removed for one in (removed(url, report) if report.removable else ()))

        eventually(is_taken_for_dead, 10.0, "doctor is faster than the owner's renewal")
        eventually(lambda: len(registry.lookup(str(HELLO))) == 1, 5.0, "it is back")
        assert client.zcard(leases) == 1


def test_zookeeper_proves_nothing_and_says_so(zookeeper_service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    url = fresh(zookeeper_service)
    with Registry(url) as registry:
        registry.publish(str(HELLO), "10.0.0.7:80")
        assert main(["doctor", "--url", url, "--fix", "--yes"]) == 0
        assert len(registry.lookup(str(HELLO))) == 1
    said = capsys.readouterr().out
    assert "nothing is proven to be dead, so nothing is removed." in said
    assert "never: the servers remove what a session owns when it ends" in said


PUBLISHER = """
    import sys, time
    from sofa_registry_adapters import Registry
    registry = Registry({url!r})
    registry.publish("com.acme.Hello:1.0", "10.0.0.7:80")
    print("live")
    time.sleep(60)
"""


def test_local_knows_a_process_that_ended(tmp_path: pathlib.Path) -> None:
    url = f"local://{tmp_path}/registry.db"

    async def dead(store: Any, child: Any) -> tuple[list[str], list[str]]:
        keys = [RecordKey(BUCKET, "10.0.0.7:80")]
        await store.open()
        try:
            before = await store.dead(keys)
            child.kill()
            return [one.name for one in before], [one.name for one in await store.dead(keys)]
        finally:
            await store.close()

    setting = read_setting(url)
    with python_process(textwrap.dedent(PUBLISHER.format(url=url))) as child:
        child.expect("live")
        store: Any = setting.make
        assert asyncio.run(dead(store(setting.target, SystemClock()), child)) == ([], ["10.0.0.7:80"])


# The command.


def test_a_good_registry_is_code_0(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    url = f"local://{tmp_path}/registry.db"
    with Registry(url) as registry:
        registry.publish(str(HELLO), "127.0.0.1:80")
        assert main(["doctor", "--url", url]) == 0
    said = capsys.readouterr().out
    assert "ok  records     1 record of 1 service" in said
    assert said.endswith("\nnothing is wrong\n")


def test_findings_are_code_1_and_name_what_was_not_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", f"redis://127.0.0.1:{free_port()}"]) == 1
    said = capsys.readouterr().out
    assert "error: tcp: 127.0.0.1:" in said
    assert "1 error; not examined: TLS, login, permission, version, clock, records" in said
    assert main(["doctor", "--url", f"redis://127.0.0.1:{free_port()}", "--fix", "--yes"]) == 1
    assert "nothing is removed: the examination did not come as far" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        (("--yes",), "--yes goes with --fix"),
        (("--record", "a/b"), "--record goes with --fix"),
        (("--fix",), "there is nobody to ask: add --yes"),
        (("--fix", "--json"), "there is nobody to ask: add --yes"),
        (("--fix", "--yes", "--record", "a"), "--record takes SERVICE/RECORD"),
        (("--service", "a:b:c:d"), "has 4 parts"),
        (("--timeout", "0"), "a timeout is a number of seconds above 0"),
        (("--prob",), "did you mean '--probe'?"),
    ),
)
def test_wrong_usage_is_code_2(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", "memory://", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_report_for_machines(room: tuple[str, Space], capsys: pytest.CaptureFixture[str]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of())
    assert main(["doctor", "--url", url, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["url"], told["ok"], told["steps"][-1]["step"]) == (url, False, "records")
    assert told["findings"][0]["code"] == "owner-gone"
    assert told["findings"][0]["sentence"].endswith("--fix removes it.")
    assert main(["doctor", "--url", url, "--json", "--fix", "--yes"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["outcomes"][0]["removed"]) == (True, True)


@pytest.mark.parametrize(("agreed", "code"), ((True, 0), (False, 1)))
def test_fix_shows_and_asks_first(
    room: tuple[str, Space],
    agreed: bool,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())

    def confirm(question: str, **_: object) -> bool:
        assert "to be removed: com.acme.Hello:1.0/10.0.0.7:80: its owner is gone" in capsys.readouterr().out
        assert question == "Remove this record?"
        assert place.peek(key) is not None
        return agreed

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(command.typer, "confirm", confirm)
    assert main(["doctor", "--url", url, "--fix"]) == code
    assert (place.peek(key) is None) is agreed


def test_many_findings_of_a_kind_are_counted(room: tuple[str, Space], capsys: pytest.CaptureFixture[str]) -> None:
    url, place = room
    for port in range(1, 31):
        put(place, f"10.0.0.7:{port}", b"{", owned=True)
    main(["doctor", "--url", url])
    said = capsys.readouterr().out
    assert said.count("the record cannot be decoded") == 20
    assert "and 10 more of undecodable; --json has them all" in said


def test_each_await_is_bounded(redis_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> Any:
        await asyncio.sleep(60)

    for verb, said in (("open", "signing in"), ("read", "reading"), ("put", "writing"), ("buckets", "reading")):
        with monkeypatch.context() as patched:
            patched.setattr(RedisStore, verb, hang)
            report = report_on(fresh(redis_service), timeout=0.2)
        assert f"no answer within 0.2 s while {said}" in report.findings[0].sentence
