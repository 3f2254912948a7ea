"""The processes of the test kit: frozen, killed, terminated, and gone with their parent."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sofa_registry_adapters.testing.faults import eventually, python_process

TICKER = "import itertools, time\nfor i in itertools.count():\n    print('tick', i)\n    time.sleep(.01)"


def test_a_child_is_waited_for_line_by_line() -> None:
    with python_process("print('one'); print('two'); print('one')", {"NAME": "value"}) as child:
        assert child.expect("one") == "one"
        assert child.expect("one") == "one"
        assert child.wait() == 0
        with pytest.raises(AssertionError, match=r"(?s)ended without writing 'three'; it wrote:\none\ntwo"):
            child.expect("three")


def test_a_child_that_says_nothing_in_time_is_an_error() -> None:
    with python_process("import time; time.sleep(60)") as child:
        with pytest.raises(AssertionError, match=r"ran 0.1 s without writing 'x'"):
            child.expect("x", 0.1)
        with pytest.raises(TimeoutError, match="still runs"):
            child.wait(0.01)


def test_a_child_takes_arguments_and_environment() -> None:
    with python_process(["-c", "import os, sys; print(os.environ['NAME'], sys.argv[1])", "b"], {"NAME": "a"}) as child:
        assert child.expect("a b") == "a b"


def test_a_child_is_frozen_and_goes_on() -> None:
    with python_process(TICKER) as child:
        child.expect("tick")
        child.stop()
        eventually(lambda: state_of(child.pid) == "T", message="the child was not frozen")
        written = child.output
        assert child.alive
        child.cont()
        eventually(lambda: child.output != written, message="the child did not go on")


def test_a_child_is_killed_even_when_frozen() -> None:
    with python_process(TICKER) as child:
        child.expect("tick")
        child.stop()
        child.kill()
        assert not child.alive
        assert child.wait() == -9


def test_a_child_is_terminated_even_when_frozen() -> None:
    with python_process(
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(7))\nprint('up')\ntime.sleep(60)"
    ) as child:
        child.expect("up")
        child.stop()
        assert child.terminate() == 7


def test_a_child_survives_the_thread_that_started_it() -> None:
    made: list[object] = []

    def start() -> None:
        context = python_process(TICKER)
        made.extend([context, context.__enter__()])

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(10)
    context, child = made
    try:
        eventually(lambda: "tick 5" in child.output, message="the child died with its thread")  # type: ignore[attr-defined]
    finally:
        context.__exit__(None, None, None)  # type: ignore[attr-defined]


def test_a_child_dies_with_a_killed_parent() -> None:
    program = (
        "from sofa_registry_adapters.testing.faults import python_process\n"
        "with python_process('import time; print(\"up\"); time.sleep(60)') as child:\n"
        "    child.expect('up')\n"
        "    print(child.pid, flush=True)\n"
        "    input()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout
    assert parent.stdin
    with parent.stdout, parent.stdin:
        pid = int(parent.stdout.readline())
        assert state_of(pid) not in ("", "Z")
        parent.kill()
        parent.wait(10)
        eventually(lambda: state_of(pid) in ("", "Z"), message="the child outlived its parent")


def test_a_program_that_is_not_there_ends_at_once() -> None:
    with python_process(["/no/such/file.py"]) as child:
        assert child.wait() == 2
        child.expect("can't open file")


def state_of(pid: int) -> str:
    """The letter of the kernel for what the process does; nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
