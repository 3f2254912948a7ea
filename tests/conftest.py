"""Fixtures of all tests: the real servers of the kit that ships in the wheel."""

import gc
import signal
import threading
import time
from collections.abc import Iterator
from types import TracebackType

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["sofa_registry_adapters.testing.plugin"]

# Whoever starts the tests in the background may have Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes says how busy the machine is.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """A traceback may have no line number, above all if a signal raised: pytest stumbles over it, and ends the whole run."""
    error = call.excinfo.value if call.excinfo is not None else None
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if any(one.tb_lineno is None for one in _entries(error.__traceback__)):
            error.__traceback__ = _numbered(error.__traceback__)
            if call.excinfo is not None and error is call.excinfo.value:
                call.excinfo = pytest.ExceptionInfo.from_exception(error)
        error = error.__cause__ or error.__context__


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _numbered(traceback: TracebackType | None) -> TracebackType | None:
    made: TracebackType | None = None
    for one in reversed(list(_entries(traceback))):
        line = one.tb_lineno if one.tb_lineno is not None else one.tb_frame.f_code.co_firstlineno
        made = TracebackType(made, one.tb_frame, one.tb_lasti, line)
    return made


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
