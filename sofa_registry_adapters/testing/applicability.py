"""What a contract does not ask of a product, because the product, or the fixture, declares it absent.

Such a test is neither passed nor skipped: it is counted as "not applicable", with its reason.
"""

from __future__ import annotations

from typing import NoReturn

import pytest

PREFIX = "not applicable: "


def not_applicable(reason: str) -> NoReturn:
    """End the test: what it asks for is declared absent, for ``reason``."""
    pytest.skip(f"{PREFIX}{reason}")


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Why the test is not applicable; None if that is not how it ended."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return None
    text = str(report.longrepr[2]).removeprefix("Skipped: ")
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None
