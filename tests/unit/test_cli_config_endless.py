"""`sofa-registry config` with a value that never ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENDLESS = "/dev/zero"


@pytest.mark.skipif(not Path(ENDLESS).exists(), reason="there is no endless file here")
@pytest.mark.parametrize("given", (("--file", ENDLESS), ("-",)))
def test_a_value_that_never_ends(given: tuple[str, ...]) -> None:
    program = "import sys; from sofa_registry_adapters.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("config", "set", "key", *given, "--url", "memory://endless")
    with Path(ENDLESS).open("rb") as endless:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            stdin=endless,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("sofa-registry: ")
    assert "has more than 64000000 bytes" in line
