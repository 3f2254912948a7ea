"""Fixtures of all tests: the real servers of the kit that ships in the wheel."""

import gc
import signal

pytest_plugins = ["sofa_registry_adapters.testing.plugin"]

# Whoever starts the tests in the background may have Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Thousands of tests in memory make each garbage collection a pause that tests of the engine's loop would see."""
    gc.collect()
    gc.freeze()
