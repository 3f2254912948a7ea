"""The page "swap your registry": its two programs, run as it says, on every registry of its table, with only the URL changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import reference
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.settings import scheme_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "swap-your-registry.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
ROWS = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| .*`\w+://.*$", PAGE, re.MULTILINE)]
TABLE = [row for row in ROWS if len(row) == 4]
"""Name, URL, what to install, how to start a server."""
EXPECTED, GREETINGS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
WITHIN = 20.0


class Command:
    """A command of the page, as a process in the folder where the page's programs are."""

    def __init__(self, command: str, folder: Path, url: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SOFA_")}
        paths = {name: str(folder) for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
        self.process = subprocess.Popen(
            [
                sys.executable,
                *command.removeprefix("python ").replace("sofa-registry", "-m sofa_registry_adapters.cli", 1).split(),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**kept, **paths, "PYTHONPATH": str(ROOT), "SOFA_REGISTRY_URL": url},
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def enter(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for title, text in re.findall(r'^```python title="(.*?)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL):
        (tmp_path / title).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(params=TABLE, ids=[scheme_of(row[1].strip("`")) for row in TABLE])
def url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of a row, with the server's real place in it and a namespace of this test's own."""
    written = str(request.param[1]).strip("`")
    scheme = scheme_of(written)
    if not Plugins().backend(scheme).needs_host:
        yield f"{written}{folder}/registry.db"
        return
    service = request.getfixturevalue(f"{scheme}_service")
    place = urlsplit(written)
    assert place.hostname == "127.0.0.1"
    yield place._replace(netloc=f"{service.host}:{service.port}", query=f"namespace={uuid.uuid4().hex}").geturl()


@pytest.mark.timeout(300)  # a server may have to be fetched first
def test_the_commands_do_on_each_registry_what_the_page_says(folder: Path, url: str) -> None:
    export, consume, provide = COMMANDS[:3]
    assert export == f"export SOFA_REGISTRY_URL={TABLE[0][1].strip('`')}"
    found, gone = EXPECTED.splitlines()
    consumer = Command(consume, folder, url)
    provider = Command(provide, folder, url)
    try:
        assert provider.line().startswith("published")
        assert consumer.line() == found
        with Registry(url, options={"snapshot": "off"}) as third:
            assert [one.address for one in third.lookup("com.acme.Hello:1.0")] == [found.partition(" ")[2]]
        began = time.monotonic()
        provider.enter()
        assert consumer.line() == gone
        assert time.monotonic() - began < 2.0
        assert consumer.process.wait(WITHIN) == 0
        assert provider.process.wait(WITHIN) == 0
    finally:
        consumer.kill()
        provider.kill()


@pytest.mark.timeout(300)
def test_configuration_does_so_as_well(folder: Path, url: str) -> None:
    greet, *settings = COMMANDS[3:]
    greeter = Command(greet, folder, url)
    try:
        nothing, *greetings = GREETINGS.splitlines()
        assert greeter.line() == nothing
        assert len(settings) == len(greetings)
        for setting, greeting in zip(settings, greetings, strict=True):
            setter = Command(setting, folder, url)
            said, _ = setter.process.communicate(timeout=WITHIN)
            assert setter.process.returncode == 0, said
            assert greeter.line() == greeting
        assert greeter.process.wait(WITHIN) == 0
    finally:
        greeter.kill()


def test_every_registry_that_processes_can_share_is_in_the_table() -> None:
    schemes = [scheme_of(row[1].strip("`")) for row in TABLE]
    ours = [one for one in reference.backends() if reference.is_ours(one)]
    # Several servers of a product are one registry by another scheme: redis+sentinel is Redis.
    products = [one.schemes[0].partition("+")[0] for one in ours if one.capabilities.shared]
    assert [one for one in products if one not in schemes] == []
    assert not Registry("memory://").capabilities.shared, "the page says why it is left out"
    for backend, row in ((Plugins().backend(scheme_of(row[1].strip("`"))), row) for row in TABLE):
        assert row[2].strip("`") == f"sofa-registry-adapters{f'[{backend.extra}]' if backend.extra else ''}"
        assert not backend.default_port or f"-p {backend.default_port}:{backend.default_port} " in row[3]
