"""What doctor says on the way to a server: names, TCP, TLS."""

from __future__ import annotations

import contextlib
import pathlib
import shlex
import shutil
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator

import pytest
from doctor_reports import codes, home, is_documented, only, report_on

from sofa_registry_adapters.testing.faults import eventually, free_port
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["home"]


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
