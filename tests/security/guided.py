"""The decoders under atheris, guided by coverage: ``python tests/security/guided.py --seconds 600``; `tox -e fuzz` does that.

Each target of `test_fuzz` runs in a process of its own. Executions and escapes go to tests/security/results/fuzz.json, from which the page on
security has its table. An input that escapes is kept beside it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import msgspec

RESULTS = Path(__file__).parent / "results"
FUZZ = RESULTS / "fuzz.json"
SLOWEST, MOST = 5, 1024
"""Seconds and megabytes for one input, with room for a machine that is shared and for what looks at the coverage."""


class Fuzzed(msgspec.Struct, frozen=True):
    """What became of one target. ``features``: how much of the decoder was seen at work, as libFuzzer counts it."""

    seconds: float
    executions: int
    features: int
    escapes: tuple[str, ...]
    seed: int


class Book(msgspec.Struct):
    """All of them."""

    versions: str = ""
    date: str = ""
    targets: dict[str, Fuzzed] = {}


def read() -> Book:
    """What was found last."""
    return msgspec.json.decode(FUZZ.read_bytes(), type=Book) if FUZZ.exists() else Book()


def table() -> str:
    """The results, as the page on security shows them."""
    book = read()
    lines = [
        f"| {name} | {one.seconds:,.0f} | {one.executions:,} | {one.features:,} | {len(one.escapes)} |".replace(
            ",", " "
        )
        for name, one in book.targets.items()
    ]
    head = "| what is decoded | seconds | executions | features seen | escapes |\n| --- | --- | --- | --- | --- |\n"
    return f"{book.versions}, {book.date}:\n\n{head}" + "".join(f"{line}\n" for line in lines)


def fuzz(name: str, arguments: list[str]) -> None:
    """In the process of one target: run until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["sofa_registry_adapters"]):
        import test_fuzz

    target: Callable[[bytes], None] = test_fuzz.TARGETS[name][0]
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


def run(name: str, seconds: float, seed: int) -> Fuzzed:
    """One target, in a process of its own."""
    import test_fuzz

    with tempfile.TemporaryDirectory(prefix="sofa-corpus-") as corpus:
        for number, known in enumerate(test_fuzz.TARGETS[name][1]):
            (Path(corpus) / f"seed-{number}").write_bytes(known)
        limits = [f"-max_total_time={seconds:.0f}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MOST}", "-max_len=20000"]
        kept = RESULTS / f"escape-{name.replace(' ', '-')}-"
        words = [*limits, f"-seed={seed}", "-print_final_stats=1", f"-artifact_prefix={kept}", corpus]
        ended = subprocess.run(
            [sys.executable, __file__, "--target", name, "--", *words], capture_output=True, text=True, check=False
        )
    said = ended.stderr + ended.stdout
    if "stat::number_of_executed_units" not in said:
        raise SystemExit(f"{name} did not run:\n{said[-4000:]}")
    escapes = () if ended.returncode == 0 else (said[-1500:],)
    return Fuzzed(seconds, _last(r"number_of_executed_units:\s+(\d+)", said), _last(r"ft: (\d+)", said), escapes, seed)


def _last(pattern: str, said: str) -> int:
    found = re.findall(pattern, said)
    return int(found[-1]) if found else 0


def main() -> int:
    """Run all targets, or one."""
    import test_fuzz

    parser = argparse.ArgumentParser(description="Fuzz what decodes the words of others, guided by coverage.")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--only", choices=tuple(test_fuzz.TARGETS), action="append")
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    book = read()
    for name in given.only or test_fuzz.TARGETS:
        book.targets[name] = found = run(name, given.seconds, given.seed)
        book.versions = f"atheris {version('atheris')}, Python {platform.python_version()}"
        book.date = dt.datetime.now(dt.UTC).date().isoformat()
        FUZZ.write_bytes(msgspec.json.format(msgspec.json.encode(book), indent=1) + b"\n")
        sys.stdout.write(f"{name}: {found.executions} executions, {len(found.escapes)} escapes, seed {found.seed}\n")
        sys.stdout.write("".join(f"{one}\n" for one in found.escapes))
        sys.stdout.flush()
    return 1 if any(one.escapes for one in book.targets.values()) else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--target"]:
        fuzz(sys.argv[2], sys.argv[4:])
    else:
        sys.exit(main())
