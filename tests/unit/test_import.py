"""Importing the package costs little and starts nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, os, socket, sys, threading
before = set(sys.modules)
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork") else None)
{work}
print(json.dumps({{
    "modules": sorted({{name.partition(".")[0] for name in sys.modules}}),
    "ours": sorted(name for name in sys.modules if name.startswith("sofa_registry_adapters")),
    "threads": [thread.name for thread in threading.enumerate()],
    "opened": opened,
}}))
"""
CLIENTS = {"kazoo", "redis", "grpc", "etcd3", "v2", "nacos", "google", "sqlite3", "yaml", "pydantic"}


def after(work: str, *options: str) -> dict[str, list[str]]:
    answer = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", CODE.format(work=work)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    found: dict[str, list[str]] = json.loads(answer.stdout)
    return found


def test_importing_imports_no_client_no_asyncio_and_starts_nothing() -> None:
    found = after("import sofa_registry_adapters")
    assert not CLIENTS & set(found["modules"])
    assert "asyncio" not in found["modules"]
    assert "pluggy" not in found["modules"]
    assert "concurrent" not in found["modules"]
    assert found["threads"] == ["MainThread"]
    assert found["opened"] == []
    rooms = {name.split(".")[1] for name in found["ours"] if "." in name}
    assert not rooms & {"backends", "layouts", "testing", "cli"}
    # Backends are found by name when a Registry is made; the rest of the engine waits for the first open.
    assert [name for name in found["ours"] if ".engine." in name] == ["sofa_registry_adapters.engine.plugins"]


def test_every_public_name_is_there() -> None:
    after("import sofa_registry_adapters as package\nfor name in package.__all__: getattr(package, name)")
    after("from sofa_registry_adapters import *\nfrom sofa_registry_adapters.events import *")


@pytest.mark.parametrize("url", ("memory://x", "etcd://h", "redis://h", "zookeeper://h", "local:///tmp/x.db"))
def test_constructing_parses_and_does_nothing_else(url: str) -> None:
    found = after(
        f"from sofa_registry_adapters import Registry\nregistry = Registry({url!r}, options={{'snapshot': 'off'}})\nrepr(registry)"
    )
    assert found["threads"] == ["MainThread"]
    assert found["opened"] == []
    assert not (CLIENTS - {"sqlite3"}) & set(found["modules"])


def test_using_one_backend_imports_no_other() -> None:
    found = after(
        "from sofa_registry_adapters import Registry\nwith Registry('memory://x') as registry: registry.publish('a', 'h:1')"
    )
    assert not CLIENTS & set(found["modules"])
    assert found["opened"] == []


def test_it_imports_with_assertions_off() -> None:
    after("import sofa_registry_adapters", "-OO")
