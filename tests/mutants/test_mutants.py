"""The kit proves itself: each defect of a peer is found by the tests that are named for it, and none hangs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "mutants.md"
AT_A_TIME = 4
SECONDS = 30.0
"""How long the tests of one mutant may take, a loaded machine included."""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mutants = _load()


def _run(folder: Path, tests: tuple[str, ...], name: str = "", seconds: float = SECONDS) -> dict[str, str]:
    """How each test ended in a process of its own, by the certificate."""
    certificate = folder / "certificate.json"
    places = os.pathsep.join((str(Path(__file__).parent), str(ROOT)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "mutants"),
            *("-p", "sofa_registry_pytest", f"--certificate={certificate}", "-W", "ignore", *tests),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": places, mutants.VARIABLE: name},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert certificate.exists(), done.stdout + done.stderr
    found = msgspec.json.decode(certificate.read_bytes())
    return {
        f"{promise['test']}[{run['case']}]".removesuffix("[]"): run["outcome"]
        for promise in found["promises"]
        for run in promise["runs"]
    }


def _names(tests: tuple[str, ...]) -> set[str]:
    return {test.rpartition("::")[2] for test in tests}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[dict[str, str]]]]:
    """All of them, a few at a time: they wait more than they work."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            name: pool.submit(_run, tmp_path_factory.mktemp(name), one.tests, name)
            for name, one in mutants.MUTANTS.items()
        }
        # Who asked for one of them does not wait for the others.
        pool.shutdown(wait=False, cancel_futures=True)


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_each_mutant_is_caught_by_its_tests(name: str, runs: dict[str, Future[dict[str, str]]]) -> None:
    outcomes, tests = runs[name].result(), mutants.MUTANTS[name].tests
    if "skipped" in outcomes.values():
        pytest.skip("it needs a server that is not there")
    assert outcomes == dict.fromkeys(_names(tests), "failed")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ("memory", "redis"))
def test_without_a_mutant_the_same_tests_pass(backend: str, tmp_path: Path) -> None:
    named = dict.fromkeys(test for one in mutants.MUTANTS.values() for test in one.tests)
    tests = tuple(test for test in named if f"_{backend}.py::" in test)
    outcomes = _run(tmp_path, tests, seconds=55.0)
    assert {name for name, outcome in outcomes.items() if outcome not in ("passed", "skipped")} == set()
    assert outcomes.keys() == _names(tests)


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == mutants.page(), "run python tests/mutants/mutants.py"
