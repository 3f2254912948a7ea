"""The consumer, a process of its own: watches one service and says what it sees and when."""

from __future__ import annotations

import sys
import threading
from time import monotonic

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli.demo.wire import TIMEOUT, stage, tell


def main(service: str) -> None:
    """Watch ``service`` until standard input ends."""
    with Registry() as registry, registry.watch(service, timeout=TIMEOUT) as changes:

        def end_with_input() -> None:
            sys.stdin.read()
            changes.close()

        threading.Thread(target=end_with_input, daemon=True).start()
        for change in changes:
            seen = {one.instance_id: one.weight for one in change.instances}
            tell("sees", at=monotonic(), weights=seen, stale=change.stale)


if __name__ == "__main__":
    with stage():
        main(*sys.argv[1:])
