"""ZooKeeper over TLS: the name is checked, certificates identify, and are read again for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pathlib
import shutil
import socket
import struct
import threading
import uuid
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli.doctor.examination import Wish, examine
from sofa_registry_adapters.errors import Denied, InvalidURL, Unavailable
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.faults import Authority, NetProxy, eventually
from sofa_registry_adapters.testing.services import Service, ServiceUnavailable
from sofa_registry_adapters.testing.services.secured import Papers, secured

HOSTS = ("DNS:localhost",)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    if not Authority.possible():
        pytest.skip("no openssl on the PATH")
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return Papers(authority, authority.issue("server", *HOSTS), demanding=True)


@pytest.fixture(scope="module")
def zookeeper(papers: Papers) -> Iterator[Service]:
    try:
        service = secured("zookeeper", papers)
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    yield service
    service.close()


@pytest.fixture
def root() -> str:
    return uuid.uuid4().hex


def url(zookeeper: Service, host: str = "localhost", port: int = 0, path: str = "") -> str:
    return f"zks://{host}:{port or zookeeper.port + 1}/{path}"


def trust(papers: Papers, who: str = "ann") -> dict[str, str]:
    pair = papers.authority.issue(who)
    return {"ca": str(papers.authority.ca), "cert": str(pair.cert), "key": str(pair.key), "snapshot": "off"}


def works(registry: Registry, service: str = "echo") -> None:
    registry.publish(service, "10.0.0.1:1")
    assert [one.address for one in registry.lookup(service)] == ["10.0.0.1:1"]


def test_the_whole_path(zookeeper: Service, papers: Papers, root: str) -> None:
    options = trust(papers)
    with (
        Registry(url(zookeeper, path=root), options=options) as one,
        Registry(url(zookeeper, path=root), options=options) as other,
    ):
        seen: list[int] = []
        other.subscribe("echo", lambda change: seen.append(len(change.instances)))
        handles = [one.publish("echo", f"10.0.0.{number}:1", metadata={"long": "x" * 4000}) for number in range(1, 101)]
        eventually(lambda: seen and seen[-1] == 100, 10.0, "all hundred, some 400 kB, are seen over TLS")
        handles[0].unpublish()
        eventually(lambda: seen[-1] == 99, 5.0, "one is withdrawn")


@pytest.mark.parametrize(
    ("host", "left_out", "why"),
    (
        ("127.0.0.1", (), "mismatch"),
        ("localhost", ("ca",), "unable to get|self.signed"),
        ("localhost", ("cert", "key"), "BAD_CERTIFICATE"),
    ),
    ids=("another-name", "unknown-authority", "no-certificate"),
)
def test_who_is_refused(
    zookeeper: Service, papers: Papers, *, root: str, host: str, left_out: tuple[str, ...], why: str
) -> None:
    options = {name: value for name, value in trust(papers).items() if name not in left_out}
    with Registry(url(zookeeper, host, path=root), options=options) as registry, pytest.raises(Unavailable, match=why):
        registry.lookup("echo", timeout=2.0)


@pytest.mark.usefixtures("zookeeper")
def test_an_expired_server(papers: Papers, tmp_path: pathlib.Path, root: str) -> None:
    service = secured("zookeeper", Papers(papers.authority, papers.authority.issue("old", *HOSTS, expired=True)))
    try:
        options = {"ca": str(papers.authority.ca), "snapshot": "off"}
        with (
            Registry(url(service, path=root), options=options) as registry,
            pytest.raises(Unavailable, match="expired"),
        ):
            registry.lookup("echo", timeout=2.0)
    finally:
        service.close()


def test_connections_that_are_reset_before_tls_begins(papers: Papers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        threading.Thread(target=reset, daemon=True).start()
        port = listener.getsockname()[1]
        with Registry(f"zks://localhost:{port}", options=trust(papers)) as registry, pytest.raises(Unavailable):
            registry.lookup("echo", timeout=2.0)
        listener.shutdown(socket.SHUT_RDWR)
    # A socket that was left open would be complained of here.
    gc.collect()


def test_files_that_cannot_be_used(zookeeper: Service, papers: Papers, tmp_path: pathlib.Path) -> None:
    options = trust(papers)
    (tmp_path / "text").write_text("no certificate")
    for wrong, why in (
        ({"ca": "/nowhere"}, "the option ca names '/nowhere', which is not a file"),
        ({"cert": str(tmp_path / "text")}, "cannot be used for TLS"),
    ):
        with Registry(url(zookeeper), options=options | wrong) as registry, pytest.raises(InvalidURL, match=why):
            registry.lookup("echo", timeout=2.0)
    for bad in ("zookeeper://h?ca=x", "zk://h?cert=x", "zks://h?key=x"):
        with pytest.raises(InvalidURL):
            Registry(bad)


def test_a_certificate_is_an_identity(zookeeper: Service, papers: Papers, root: str) -> None:
    with Registry(url(zookeeper, path=root), options=trust(papers, "ann") | {"acl": "readable"}) as ann:
        works(ann)
        with Registry(url(zookeeper, path=root), options=trust(papers, "bob")) as bob:
            assert len(bob.lookup("echo")) == 1
            with pytest.raises(Denied):
                bob.publish("echo", "10.0.0.2:1")
        # A new certificate for the same name is the same identity.
        with Registry(url(zookeeper, path=root), options=trust(papers, "ann")) as again:
            again.publish("echo", "10.0.0.3:1")


def test_certificates_are_read_for_each_connection(
    zookeeper: Service, papers: Papers, root: str, tmp_path: pathlib.Path
) -> None:
    options, stranger = trust(papers), Authority(tmp_path / "stranger").issue("ann")
    kept = {name: pathlib.Path(options[name]).read_bytes() for name in ("cert", "key")}
    proxy = NetProxy(("127.0.0.1", zookeeper.port + 1))
    with proxy, Registry(url(zookeeper, port=proxy.port, path=root), options=options) as registry:
        works(registry)
        for name, file in (("cert", stranger.cert), ("key", stranger.key)):
            shutil.copyfile(file, options[name])
        proxy.cut()
        eventually(lambda: not up(registry), 10.0, "the certificate of a stranger is refused")
        for name, content in kept.items():
            pathlib.Path(options[name]).write_bytes(content)
        eventually(lambda: up(registry), 10.0, "the old one is taken again")
        works(registry, "other")


def up(registry: Registry) -> bool:
    try:
        registry.lookup("never-watched-" + uuid.uuid4().hex[:6], timeout=1.0)
    except Unavailable:
        return False
    return True


def test_password_and_access_list(zookeeper: Service, papers: Papers, root: str) -> None:
    at = f"zookeeper://ann:first-word@127.0.0.1:{zookeeper.port}/{root}"
    with Registry(at, options={"snapshot": "off", "acl": "readable"}) as ann:
        works(ann)
        with Registry(at.replace("ann:first-word@", ""), options={"snapshot": "off"}) as anybody:
            assert len(anybody.lookup("echo")) == 1
            with pytest.raises(Denied):
                anybody.publish("echo", "10.0.0.9:1")
        with Registry(at.replace("first-word", "wrong-word"), options={"snapshot": "off"}) as wrong:
            with pytest.raises(Denied) as raised:
                wrong.publish("echo", "10.0.0.9:1")
            assert "-word" not in str(raised.value)
        operator = KazooClient(f"127.0.0.1:{zookeeper.port}")
        operator.start()
        try:
            path = f"/{root}"
            while children := operator.get_children(path):
                path += f"/{children[0]}"
            acls, _ = operator.get_acls(path)
            assert sorted((one.perms, one.id.scheme) for one in acls) == [(1, "world"), (31, "digest")]
        finally:
            operator.stop()
            operator.close()


def test_the_doctor_over_tls(zookeeper: Service, papers: Papers, root: str) -> None:
    options = trust(papers)
    query = "&".join(f"{name}={options[name]}" for name in ("ca", "cert", "key"))
    report = asyncio.run(examine(Wish(f"{url(zookeeper, path=root)}?{query}"), SystemClock()))
    seen = {step.step: step.seen for step in report.steps}
    assert seen["tls"].startswith("TLSv1")
    assert "ZooKeeper 3." in seen["version"]
