"""The README and the reference pages say what the code says, and the example runs as it stands there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sofa_registry_adapters.testing.services import Service

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "hello.py"
LIFE = ["['127.0.0.1:12200 weight 100']", "['127.0.0.1:12200 weight 50']", "[]"]


def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_example(url: str, tmp_path: Path) -> list[str]:
    environment = {
        **os.environ,
        "SOFA_REGISTRY_URL": url,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=tmp_path,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize("page", ("README.md", "docs/reference/options.md", "docs/reference/errors.md"))
def test_generated_parts_are_fresh(page: str) -> None:
    expected = generate().pages()[ROOT / page]
    assert (ROOT / page).read_text(encoding="utf-8") == expected, f"{page} is stale: run python docs/generate.py"


def test_the_example_in_the_readme_is_the_file_and_has_twelve_lines() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert f"```python\n{text}```\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 12


def test_the_readme_shows_what_the_example_prints() -> None:
    assert "```\n" + "\n".join(LIFE) + "\n```\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_of_the_readme_leads_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_example_runs_on_local(tmp_path: Path) -> None:
    assert run_example(f"local://{tmp_path}/hello.db", tmp_path) == LIFE


def test_the_example_runs_on_memory(tmp_path: Path) -> None:
    assert run_example("memory://", tmp_path) == LIFE


def test_the_example_runs_on_etcd(etcd_service: Service, tmp_path: Path) -> None:
    assert run_example(f"{etcd_service.url}?namespace=readme-{os.getpid()}", tmp_path) == LIFE


def test_the_example_runs_on_redis(redis_service: Service, tmp_path: Path) -> None:
    assert run_example(f"{redis_service.url}?namespace=readme-{os.getpid()}", tmp_path) == LIFE


def test_the_example_runs_on_zookeeper(zookeeper_service: Service, tmp_path: Path) -> None:
    assert run_example(f"{zookeeper_service.url}?namespace=readme-{os.getpid()}", tmp_path) == LIFE
