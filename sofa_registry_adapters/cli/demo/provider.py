"""One provider, a process of its own: publishes, and takes a new weight from each line of standard input.

It ends at SIGTERM and at the end of its input, and withdraws what it published.
"""

from __future__ import annotations

import signal
import sys
from time import monotonic
from types import FrameType

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli.demo.wire import TIMEOUT, stage, tell


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main(service: str, address: str, name: str) -> None:
    """Publish ``address`` until told to end."""
    signal.signal(signal.SIGTERM, _end)
    with Registry() as registry:
        asked = monotonic()
        registration = registry.publish(service, address, instance_id=name, timeout=TIMEOUT)
        tell("published", asked=asked)
        for line in sys.stdin:
            asked = monotonic()
            registration.update(weight=int(line), timeout=TIMEOUT)
            tell("updated", asked=asked)


if __name__ == "__main__":
    with stage():
        main(*sys.argv[1:])
