"""A URL that leads to nobody, or to somebody else: one sentence within the time-out that says what is there and what to do."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.errors import InvalidURL, RegistryError
from sofa_registry_adapters.testing.faults import free_port
from sofa_registry_adapters.testing.services import Service

GREETING = b"SSH-2.0-OpenSSH_9.2p1\r\n"
TIMEOUT = 2.5


def said(url: str, **options: str) -> str:
    """Why a look-up there fails, which it does in time."""
    begun = time.monotonic()
    with Registry(url, options={"snapshot": "off", **options}) as registry, pytest.raises(RegistryError) as caught:
        registry.lookup("com.acme.Hello", timeout=TIMEOUT)
    assert time.monotonic() - begun < TIMEOUT + 3
    return str(caught.value)


@pytest.fixture
def greeter() -> Iterator[int]:
    """The port of a server that greets as that of another product does, whatever is said to it."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(ConnectionError):
                    connection.sendall(GREETING)
                    connection.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_somebody_who_says_nothing() -> None:
    """Also to whoever gives up before the first attempt to connect does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}"
        assert said(url).endswith(f"within {TIMEOUT:g} s: the first attempt to connect has no answer yet")
        assert said(url, call_timeout="1s").endswith(": no answer within 1 s while connecting")


@pytest.mark.parametrize("scheme", ("redis", "rediss"))
def test_nobody_there(scheme: str) -> None:
    port = free_port()
    assert said(f"{scheme}://127.0.0.1:{port}").endswith(f": redis at 127.0.0.1:{port}: Connection refused")


def test_nobody_there_on_zookeeper(greeter: int) -> None:
    assert said(f"zookeeper://127.0.0.1:{free_port()}").endswith(": socket connection error: Connection refused")
    assert said(f"zookeepers://127.0.0.1:{greeter}").endswith("WRONG_VERSION_NUMBER: it seems to speak without TLS")


def test_nobody_at_an_address_of_six() -> None:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        port = free_port()
        assert said(f"redis://[::1]:{port}").endswith(f": redis at [::1]:{port}: Connection refused")


def test_a_name_that_nobody_has() -> None:
    sentence = said("redis://registry.invalid")
    assert re.search(r": redis at registry\.invalid:6379: [A-Z][^:\[]+$", sentence), sentence
    assert "Error" not in sentence


def test_another_product(greeter: int) -> None:
    assert "does not speak Redis' protocol: correct the port" in said(f"redis://127.0.0.1:{greeter}")
    assert "write redis instead of rediss" in said(f"rediss://127.0.0.1:{greeter}")


def test_another_kind_of_redis(redis_service: Service) -> None:
    place = f"{redis_service.host}:{redis_service.port}"
    assert "it is no Sentinel: for one server write redis://" in said(f"redis+sentinel://{place}/mymaster")
    assert "it is no node of a cluster: for one server write redis://" in said(f"redis+cluster://{place}")


def test_redis_is_no_etcd(redis_service: Service) -> None:
    sentence = said(f"etcd://{redis_service.host}:{redis_service.port}")
    assert "does not speak etcd's protocol: correct the port" in sentence


@pytest.mark.parametrize(("scheme", "hint"), (("nacos", "speak Nacos' gRPC interface"), ("nacoss", "write nacos://")))
def test_another_product_is_no_nacos(scheme: str, hint: str, greeter: int) -> None:
    assert hint in said(f"{scheme}://127.0.0.1:{greeter}?grpc_offset=0")


RECENT_GRPC = tuple(map(int, version("grpcio").split(".")[:2])) > (1, 75)


def test_grpc_does_not_chatter(greeter: int) -> None:
    """Nor does it hear of it: what the environment says is as it was."""
    program = (
        "import os, sys; before = dict(os.environ); from sofa_registry_adapters.cli import main; code = main(sys.argv[1:]); "
        "assert os.environ == before; sys.exit(code)"
    )
    arguments = ("services", "--url", f"etcds://127.0.0.1:{greeter}", "--timeout", str(TIMEOUT))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    # Releases up to 1.71 write it as an error, whatever they are told.
    said = [one for one in done.stderr.splitlines() if RECENT_GRPC or one.startswith("sofa-registry")]
    (line,) = said
    assert line.startswith(f"sofa-registry: etcds://127.0.0.1:{greeter} cannot be reached within {TIMEOUT:g} s")


def test_brackets_that_do_not_end() -> None:
    with pytest.raises(InvalidURL, match=r"no '\]' behind its IPv6 address: write '\[host\]:port'"):
        Registry("redis://[::1")


def test_the_command_line_names_the_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it can find something out: not for wrong usage, and not for what is elsewhere."""
    url = f"redis://127.0.0.1:{free_port()}"
    hint = "; sofa-registry doctor finds out why"
    for arguments, code, named in (
        (("services", "--url", url, "--timeout", "0.3"), 1, True),
        (("config", "get", "key", "--url", url, "--timeout", "0.3"), 1, False),
        (("services", "--url", "redis://"), 2, False),
    ):
        assert main(arguments) == code
        assert capsys.readouterr().err.rstrip().endswith(hint) is named, arguments


def test_the_form_of_a_url_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("services", "--url", "redis://")) == 2
    assert "the form is redis://[user:password@]host[:port]" in capsys.readouterr().err
