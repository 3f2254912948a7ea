"""The engine's thread, alone."""

from __future__ import annotations

import threading
import uuid

import pytest


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sofa-registry")]


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex
