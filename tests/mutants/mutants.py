"""Defects that peers have or had, planted into the library one at a time, and the tests that must find them.

As a pytest plug-in (`-p mutants`, with SOFA_MUTANT in the environment) it plants one before the tests are loaded.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from planted.page import page
from planted.table import MUTANTS

VARIABLE = "SOFA_MUTANT"

# The page has them in this order.
for room in ("records", "registrations", "watching", "declarations", "configuration"):
    importlib.import_module(f"planted.{room}")


def pytest_configure() -> None:
    """Plant the mutant that the environment names; none without it."""
    name = os.environ.get(VARIABLE)
    if name:
        MUTANTS[name].plant()


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "reference" / "mutants.md").write_text(page(), encoding="utf-8")
