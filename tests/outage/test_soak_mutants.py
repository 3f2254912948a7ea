"""The soak proves itself: defects that peers have or had, planted into the library, are violations of the invariant they break."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sofa_registry_adapters.testing.soak.report import Report

ROOT = Path(__file__).parents[2]
AT_A_TIME = 8
SECONDS = 15
SEED = 7484
"""Its first five rounds have every kind of fault."""
PROGRAM = """
import sys
import mutants
from sofa_registry_adapters.testing.soak.__main__ import main

if sys.argv[1] != "none":
    mutants.MUTANTS[sys.argv[1]].plant()
sys.exit(main(sys.argv[2:]))
"""
CAUGHT = {
    "renewal_taken_for_presence": {"I1"},
    "giving_up_after_five_attempts": {"I1"},
    "a_lost_watch_after_a_cut": {"I2"},
    "a_failing_listener_that_stops_others": {"I2"},
    "an_empty_push_that_is_believed": {"I3"},
    "a_bad_record_costs_the_list": {"I8"},
    "a_zombie_after_its_withdrawal": {"I1", "I12"},
}
"""Mutants, and what they violate first: a zombie may sit where its successor should be."""


def _run(folder: Path, name: str) -> tuple[int, Report]:
    result = folder / "result.json"
    words = ["--product=memory", f"--seconds={SECONDS}", f"--seed={SEED}", f"--result={result}"]
    places = os.pathsep.join((str(ROOT / "tests" / "mutants"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
        check=False,
    )
    assert result.exists(), done.stderr
    return done.returncode, msgspec.json.decode(result.read_bytes(), type=Report)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[tuple[int, Report]]]]:
    """All of them, a few at a time: they wait more than they work."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {name: pool.submit(_run, tmp_path_factory.mktemp(name), name) for name in (*CAUGHT, "none")}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", CAUGHT)
def test_a_mutant_is_caught(name: str, runs: dict[str, Future[tuple[int, Report]]]) -> None:
    code, report = runs[name].result()
    assert code == 1
    assert CAUGHT[name] & {one.invariant for one in report.violations}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_without_a_mutant_the_same_steps_violate_nothing(runs: dict[str, Future[tuple[int, Report]]]) -> None:
    code, report = runs["none"].result()
    assert not report.violations
    assert code == 0
