"""Fixtures of all tests: the real servers of the kit that ships in the wheel."""

import gc
import signal
import threading
import time
from collections.abc import Iterator

import pytest

pytest_plugins = ["sofa_registry_adapters.testing.plugin"]

# Whoever starts the tests in the background may have Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Thousands of tests in memory make each garbage collection a pause that tests of the engine's loop would see."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _no_engine_is_left() -> Iterator[None]:
    """A registry that a module leaves open would harm tests far away, with its thread and its retries: it is named here."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5.0
    while left := [one for one in threading.enumerate() if one.name.startswith("sofa-registry") and one not in before]:
        if time.monotonic() > deadline:
            pytest.fail(f"the module left {[one.name for one in left]} running")
        time.sleep(0.02)
