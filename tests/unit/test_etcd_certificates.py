"""The certificates of the etcd store, and URLs that cannot be used."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from echo_records import following, key, opened, record
from etcd_stores import bounded, own, raised, store_at, version, works

from sofa_registry_adapters.backends.etcd import BACKEND
from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import InvalidURL, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.testing.faults import ChildProcess, eventually_async, free_port
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import PRODUCTS

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["own", "version"]


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for localhost, and a client's."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on this machine")
    folder = tmp_path_factory.mktemp("certificates")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    openssl(*new, "-x509", "-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    for name, more in (("server", "subjectAltName=DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")):
        openssl(*new[:-2], "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
        (folder / "more").write_text(more)
        signing = (
            "-CA",
            folder / "ca.pem",
            "-CAkey",
            folder / "ca.key",
            "-CAcreateserial",
            "-extfile",
            folder / "more",
        )
        openssl("x509", "-req", "-days", 1, "-in", folder / f"{name}.csr", "-out", folder / f"{name}.pem", *signing)
    (folder / "both.pem").write_text((folder / "client.pem").read_text() + (folder / "client.key").read_text())
    return folder


class Secured:
    """A server that speaks TLS on localhost."""

    def __init__(self, version: str, folder: Path, data: Path, *more: str) -> None:
        self.port = free_port("127.0.0.1")
        prepare = PRODUCTS[version].local()
        if isinstance(prepare, str):
            pytest.skip(prepare)
        words = prepare(data, self.port, False)
        command = [word.replace(f"=http://127.0.0.1:{self.port}", f"=https://localhost:{self.port}") for word in words]
        files = (f"--cert-file={folder / 'server.pem'}", f"--key-file={folder / 'server.key'}")
        self.child = ChildProcess([*command, *files, *more], cwd=data)

    def store(self, host: str = "localhost", scheme: str = "etcds", **options: str) -> EtcdStore:
        return store_at(f"{host}:{self.port}", scheme=scheme, **options)


@pytest.fixture
def secured(version: str, certificates: Path, tmp_path: Path) -> Iterator[Callable[..., Secured]]:
    made: list[Secured] = []

    def make(*more: str) -> Secured:
        made.append(Secured(version, certificates, tmp_path, *more))
        return made[-1]

    yield make
    for one in made:
        one.child.kill()


@bounded
async def test_tls(secured: Callable[..., Secured], certificates: Path, own: OwnEtcd) -> None:
    server, ca = secured(), str(certificates / "ca.pem")
    good = server.store(ca=ca)
    await eventually_async(lambda: works(good.open), 15.0, "a server with TLS")
    async with following(good) as follower:
        await good.put([record()])
        await follower.shows({key(): b"1"})
    await good.close()
    plain = own()
    loop = asyncio.get_running_loop()
    for bad, words in (
        (server.store("127.0.0.1", ca=ca), "127.0.0.1"),
        (server.store(), "certificate_verify_failed"),
        (server.store(ca=str(certificates / "client.pem")), "certificate_verify_failed"),
        (server.store(scheme="etcd"), "etcds://"),
        (store_at(f"{plain.host}:{plain.port}", scheme="etcds", ca=ca), "etcd://"),
    ):
        began = loop.time()
        error = await raised(bad.open())
        assert isinstance(error, Unavailable)
        assert words in str(error).lower(), str(error)
        assert loop.time() - began < 2.5


@bounded
async def test_a_certificate_of_the_client(secured: Callable[..., Secured], certificates: Path) -> None:
    ca, cert, private = (str(certificates / name) for name in ("ca.pem", "client.pem", "client.key"))
    server = secured("--client-cert-auth", f"--trusted-ca-file={ca}")
    good = server.store(ca=ca, cert=cert, key=private)
    await eventually_async(lambda: works(good.open), 15.0, "a server with TLS")
    await good.put([record()])
    await good.close()
    in_one_file = server.store(ca=ca, cert=str(certificates / "both.pem"))
    async with opened(in_one_file):
        await in_one_file.put([record()])
    assert isinstance(await raised(server.store(ca=ca).open()), Unavailable)


@bounded
async def test_files_that_are_none(certificates: Path, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("no certificate")
    cert = str(certificates / "client.pem")
    for options in (
        {"ca": "/nowhere"},
        {"ca": str(rubbish)},
        {"ca": str(tmp_path)},
        {"cert": str(rubbish)},
        {"cert": cert},
        {"cert": cert, "key": str(rubbish)},
        {"cert": cert, "key": str(certificates / "server.key")},
    ):
        error = await raised(store_at("127.0.0.1:1", scheme="etcds", **options).open())
        assert isinstance(error, InvalidURL), options
        assert "the option c" in str(error) or "the option key" in str(error)


@pytest.mark.parametrize(
    ("url", "words"),
    (
        ("etcd://h?ca=x", "etcds://"),
        ("etcds://h?key=x", "the option cert"),
        ("etcd://:password@h", "user"),
        ("etcd://u:p@h?password_file=x", "keep one"),
        ("etcd://h?password_file=x", "etcd://user@host"),
        ("etcd://h/a//b", "between its slashes"),
        ("etcd://h?lease=0.5", "at least 1"),
    ),
)
def test_urls_that_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(InvalidURL, match=words):
        parse_target(url, BACKEND)
