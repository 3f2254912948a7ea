"""The spaces of a forked child: its own, and one a name, whichever of its threads comes first."""

from __future__ import annotations

import os

import pytest

from sofa_registry_adapters.backends.memory import space, spaces


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_child_has_none_before_it_has_a_second_thread() -> None:
    """Who makes room for them on first use is met by another thread of the child that does the same."""
    space("children")
    with spaces._SPACES._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if not spaces._SPACES._spaces and not spaces._SPACES._lock.locked() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
