"""Nacos over TLS: the name is checked, the wrong authority is refused, and so is TLS where there is none."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sofa_registry_adapters.errors import InvalidURL, Unavailable
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract.clients import Recorder
from sofa_registry_adapters.testing.contract.kit import ECHO, STEP, takes
from sofa_registry_adapters.testing.faults import Authority, eventually
from sofa_registry_adapters.testing.provider import settled
from sofa_registry_adapters.testing.services import Service, ServiceUnavailable, nacos
from sofa_registry_adapters.testing.services.local import LocalService

HOSTS = ("DNS:localhost",)
TLS = "nacos.remote.server.rpc.tls"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not Authority.possible():
        pytest.skip("no openssl on the PATH")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", params=(2, 3))
def server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Service]:
    """A server whose gRPC port speaks TLS, and HTTP is plain."""
    product = nacos.product(request.param, push_delay=0.05)
    prepare, pair = product.local(), authority.issue("server", *HOSTS)
    if isinstance(prepare, str):
        pytest.skip(prepare)

    def secured(directory: Path, port: int, persistent: bool) -> Sequence[str]:
        command = prepare(directory, port, persistent)
        with (directory / "conf" / "application.properties").open("a") as settings:
            settings.write(f"{TLS}.enableTls=true\n{TLS}.compatibility=false\n")
            settings.write(f"{TLS}.certChainFile=file:{pair.cert}\n{TLS}.certPrivateKey=file:{pair.key}\n")
        return command

    try:
        service = LocalService(dataclasses.replace(product, name=f"{product.name}-tls"), secured, persistent=False)
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    yield service
    service.close()


def url(server: Service, host: str = "localhost", scheme: str = "nacoss") -> str:
    return f"{scheme}://{host}:{server.port}/{uuid.uuid4().hex}?push_delay=50ms&snapshot=off"


def test_it_works(server: Service, authority: Authority) -> None:
    with Registry(url(server), options={"ca": str(authority.ca)}) as registry:
        recorder = Recorder()
        registry.subscribe(ECHO, recorder)
        registry.publish(ECHO, "10.0.0.1:1")
        eventually(lambda: recorder.ids, STEP, "it is seen")
        settled(registry)
        assert len(registry.lookup(ECHO)) == 1


def test_the_name_is_checked(server: Service, authority: Authority) -> None:
    options = {"ca": str(authority.ca)}
    with Registry(url(server, "127.0.0.1"), options=options) as registry, takes(2.0, "it"), pytest.raises(Unavailable):
        registry.lookup(ECHO, timeout=2.0)


def test_another_authority_is_refused(server: Service, tmp_path: Path) -> None:
    options = {"ca": str(Authority(tmp_path / "other").ca)}
    with Registry(url(server), options=options) as registry, takes(2.0, "it"), pytest.raises(Unavailable):
        registry.lookup(ECHO, timeout=2.0)


def test_without_a_file_the_authorities_of_the_system_count(server: Service) -> None:
    with Registry(url(server)) as registry, takes(2.0, "it"), pytest.raises(Unavailable):
        registry.lookup(ECHO, timeout=2.0)


def test_plain_text_against_tls(server: Service) -> None:
    with Registry(url(server, scheme="nacos")) as registry, takes(2.0, "it"), pytest.raises(Unavailable):
        registry.lookup(ECHO, timeout=2.0)


@pytest.mark.parametrize(
    ("address", "options"),
    (
        ("nacos://localhost", {"ca": "/no/such/file"}),
        ("nacoss://localhost", {"key": "/no/such/file"}),
        ("nacoss://localhost?client=sdk", {}),
    ),
)
def test_options_that_do_not_go_together(address: str, options: dict[str, str]) -> None:
    with pytest.raises(InvalidURL):
        Registry(address, options=options)


def test_a_file_that_is_not_there() -> None:
    with (
        Registry("nacoss://localhost", options={"ca": "/no/such/file", "snapshot": "off"}) as registry,
        pytest.raises(InvalidURL, match="/no/such/file"),
    ):
        registry.lookup(ECHO)
