"""What a run of the contracts found, as a file, a table and a badge.

``python -m sofa_registry_adapters.testing.certificate a.json b.json --markdown matrix.md --badge badge.svg``
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec

import sofa_registry_adapters
from sofa_registry_adapters.settings import redacted, table_of
from sofa_registry_adapters.spi.options import BackendType

Outcome = Literal["passed", "not applicable", "skipped", "failed"]
Verdict = Literal["passed", "not applicable", "skipped", "failed", "not run"]
FORMAT = 1
SIGNS: dict[Verdict, str] = {
    "passed": "yes",
    "failed": "**no**",
    "not applicable": "n/a",
    "skipped": "skipped",
    "not run": "not run",
}
GREEN, RED, AMBER = "#2e7d32", "#c62828", "#b26a00"


class Run(msgspec.Struct):
    """One test of a promise: its parameters, how it ended, and why if it did not pass."""

    case: str
    outcome: Outcome = "passed"
    reason: str = ""
    seconds: float = 0.0


class Promise(msgspec.Struct):
    """What a contract promises in one sentence, and the tests of it that were run."""

    contract: str
    number: str
    test: str
    promise: str
    runs: list[Run] = []

    @property
    def verdict(self) -> Verdict:
        """One failure is a failure; what passed somewhere passed; the rest is as its tests were."""
        outcomes = {run.outcome for run in self.runs}
        for outcome in ("failed", "passed", "skipped", "not applicable"):
            if outcome in outcomes:
                return outcome
        return "not run"

    @property
    def reasons(self) -> list[str]:
        """Why it did not pass, each reason once."""
        return list(dict.fromkeys(run.reason for run in self.runs if run.reason))


class Certificate(msgspec.Struct, kw_only=True):
    """One run of the contracts on one registry. Times are UTC, durations seconds, the URL shows no secret."""

    format: int = FORMAT
    url: str
    backend: str = ""
    summary: str = ""
    origin: str = ""
    capabilities: dict[str, bool | float | str] = {}
    server: str = ""
    library: str = sofa_registry_adapters.__version__
    python: str = platform.python_version()
    system: str = platform.system()
    clients: dict[str, str] = {}
    started: str
    seconds: float
    promises: list[Promise]
    totals: dict[str, int] = {}

    def __post_init__(self) -> None:
        self.totals = {
            "promises": len(self.promises),
            **{f"promises {name}": self._count(name) for name in SIGNS},
            **{f"tests {name}": self._tests(name) for name in ("passed", "failed", "skipped", "not applicable")},
        }

    def _count(self, verdict: str) -> int:
        return sum(one.verdict == verdict for one in self.promises)

    def _tests(self, outcome: str) -> int:
        return sum(run.outcome == outcome for one in self.promises for run in one.runs)

    @property
    def verdict(self) -> str:
        """One line: how many promises are kept, and what became of the others."""
        others = [f"{self._count(name)} {name}" for name in SIGNS if name != "passed" and self._count(name)]
        return ", ".join((f"{self._count('passed')} of {len(self.promises)} promises kept", *others))

    @property
    def whole(self) -> bool:
        """Whether nothing failed, was skipped or was left out."""
        return bool(self.promises) and not any(self._count(name) for name in ("failed", "skipped", "not run"))

    @property
    def versions(self) -> str:
        """What the run was made with."""
        clients = (f"{name} {version}" for name, version in self.clients.items())
        return ", ".join(filter(None, (self.server, *clients, f"Python {self.python}", f"library {self.library}")))

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(self), indent=1)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)


def read(path: Path) -> Certificate:
    """A certificate from its file. Raises `msgspec.ValidationError` if it is none, and OSError."""
    return msgspec.json.decode(path.read_bytes(), type=Certificate)


def number_of(test: str) -> str:
    """The number of a promise in the name of its test; empty where it has none."""
    number = test.removeprefix("test_").partition("_")[0]
    return number if number.isdigit() else ""


def sentence_of(test: str) -> str:
    """The name of a test as a sentence."""
    words = test.removeprefix("test_").removeprefix(number_of(test)).strip("_").replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}."


def backend_facts(backend: BackendType) -> dict[str, Any]:
    """What a certificate says about a backend."""
    module = (backend.load.__module__ or "").partition(".")[0]
    return {
        "backend": backend.schemes[0],
        "summary": backend.summary,
        "origin": ", ".join(sorted({f"{name} {_version(name)}" for name in _distributions(module)})),
        "capabilities": msgspec.to_builtins(backend.capabilities),
        # A library is named by its module; grpc is distributed as grpcio.
        "clients": {name: _version(next(iter(_distributions(name)), name)) for name in backend.libraries},
    }


def shown_url(url: str, backend: BackendType) -> str:
    """The URL as a certificate has it: without credentials, and with ``***`` for the value of an option that is secret."""
    head, mark, _ = redacted(url).partition("?")
    table = table_of(backend)
    pairs = (pair.partition("=") for pair in url.rpartition("@")[2].partition("?")[2].split("&") if pair)
    shown = (f"{name}={value if name in table and table[name].kind != 'secret' else '***'}" for name, _, value in pairs)
    return f"{head}{mark}{'&'.join(shown)}"


def _distributions(module: str) -> Iterable[str]:
    # An editable installation has no list of modules; its entry points name its own.
    points = ((one.name, point.module) for one in metadata.distributions() for point in one.entry_points)
    found = {name for name, entered in points if entered.partition(".")[0] == module}
    return found or metadata.packages_distributions().get(module, ())


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def markdown(certificates: Sequence[Certificate]) -> str:
    """The backends, a table of promises by backend, and every reason, in Markdown."""
    titles = ("backend", "promises", "kept", "failed", "not applicable", "skipped", "not run", "seconds", "with", "on")
    runs = [
        (
            f"`{one.backend}://`",
            *(str(one.totals[name]) for name in ("promises", *(f"promises {name}" for name in _COLUMNS))),
            f"{one.seconds:.0f}",
            one.versions,
            one.started[:10],
        )
        for one in certificates
    ]
    contracts = dict.fromkeys(one.contract for each in certificates for one in each.promises)
    matrices = (f"\n## The contract of a {name}\n\n{_matrix(certificates, name)}" for name in contracts)
    return "".join((_table(titles, runs), *matrices, *_reasons(certificates)))


_COLUMNS: tuple[Verdict, ...] = ("passed", "failed", "not applicable", "skipped", "not run")


def _matrix(certificates: Sequence[Certificate], contract: str) -> str:
    columns = [{one.test: one for one in each.promises if one.contract == contract} for each in certificates]
    tests = sorted({test: None for column in columns for test in column})
    rows = []
    for test in tests:
        promise = next(column[test] for column in columns if test in column)
        signs = (SIGNS[column[test].verdict] if test in column else "" for column in columns)
        rows.append((promise.number, promise.promise, *signs))
    return _table(("", "promise", *(f"`{one.backend}://`" for one in certificates)), rows)


def _reasons(certificates: Sequence[Certificate]) -> Iterable[str]:
    for one in certificates:
        counted = Counter((run.outcome, run.reason) for each in one.promises for run in each.runs if run.reason)
        if counted:
            lines = (f"- {count} {name}: {_inline(reason)}\n" for (name, reason), count in sorted(counted.items()))
            yield "".join((f"\nTests on `{one.backend}://` that did not pass, and why:\n\n", *lines))


def _inline(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


def badge(certificates: Sequence[Certificate]) -> str:
    """A badge in SVG: the backends, and how many of the promises that apply are kept."""
    kept = sum(one.totals["promises passed"] for one in certificates)
    asked = sum(one.totals["promises"] - one.totals["promises not applicable"] for one in certificates)
    failed = sum(one.totals["promises failed"] for one in certificates)
    colour = RED if failed else GREEN if all(one.whole for one in certificates) else AMBER
    left = f"sofa registry: {', '.join(one.backend for one in certificates)}"
    right = f"{kept} of {asked}"
    return _svg(left, right, colour)


def _svg(left: str, right: str, colour: str) -> str:
    first, second = 7 * len(left) + 12, 7 * len(right) + 12
    whole, label = first + second, escape(f"{left}: {right}", quote=True)
    texts = "".join(
        f'<text x="{middle}" y="14" textLength="{width - 12}">{escape(text)}</text>'
        for text, middle, width in ((left, first / 2, first), (right, first + second / 2, second))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" aria-label="{label}">'
        f'<title>{label}</title><rect width="{first}" height="20" fill="#444"/>'
        f'<rect x="{first}" width="{second}" height="20" fill="{colour}"/>'
        f'<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{texts}</g>'
        "</svg>\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0 if nothing failed, 1 if something did, 2 for a file that is no certificate."""
    parser = argparse.ArgumentParser(
        prog="python -m sofa_registry_adapters.testing.certificate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("certificates", nargs="+", type=Path, help="files that pytest --certificate wrote")
    parser.add_argument("--markdown", type=Path, help="write the table to this file; without it, it is printed")
    parser.add_argument("--badge", type=Path, help="write the badge to this file")
    asked = parser.parse_args(arguments)
    try:
        certificates = [read(path) for path in asked.certificates]
    except (OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"this is no certificate: {error}\n")
        return 2
    wanted: list[tuple[Path | None, Callable[[Sequence[Certificate]], str]]] = [
        (asked.markdown, markdown),
        (asked.badge, badge),
    ]
    for path, make in wanted:
        if path is not None:
            path.write_text(make(certificates), encoding="utf-8")
    if asked.markdown is None:
        sys.stdout.write(markdown(certificates))
    return int(any(one.totals["promises failed"] for one in certificates))


if __name__ == "__main__":
    sys.exit(main())
