"""The pages that show results: of outages, benchmarks, fuzzing, soaks, and what scale costs."""

from __future__ import annotations

import importlib
import sys
import typing
from pathlib import Path

from generating.markdown import ROOT, between


def beside(folder: str, module: str) -> typing.Any:
    """A module that lies beside tests, which are no package."""
    path = str(ROOT / "tests" / folder)
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(module)


def outage_page(package: str) -> str:
    """A page made by a package beside the outage tests, from their results."""
    return str(beside("outage", f"{package}.page").page())


def scale_page(page: Path) -> str:
    """The page about scale with its tables, from what was measured."""
    text = page.read_text(encoding="utf-8")
    for name, content in beside("scale", "scaling.page").tables().items():
        text = between(text, name, content)
    return text


def security_page(page: Path) -> str:
    """The page about security with what fuzzing found."""
    return between(page.read_text(encoding="utf-8"), "fuzz", beside("security", "guided").table())


def soak_page(page: Path) -> str:
    """The page about the soak with what the long ones showed."""
    return between(page.read_text(encoding="utf-8"), "soaks", beside("outage", "soaking").table())


def performance_page() -> str:
    """What was measured, from the results of the benchmarks."""
    return str(beside("bench", "measuring.page").page())
