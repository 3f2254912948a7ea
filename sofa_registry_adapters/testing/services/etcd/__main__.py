"""Build an etcd for the test kit now: `python -m sofa_registry_adapters.testing.services.etcd [VERSION …]`."""

from __future__ import annotations

import sys

from sofa_registry_adapters.testing.services.etcd.program import CURRENT, BuildFailed, build


def main(arguments: list[str]) -> int:
    """Build the versions that are named, or the one that the kit uses; the exit status."""
    for version in arguments or [CURRENT]:
        try:
            sys.stdout.write(f"etcd {version} is {build(version)}\n")
        except BuildFailed as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


sys.exit(main(sys.argv[1:]))
