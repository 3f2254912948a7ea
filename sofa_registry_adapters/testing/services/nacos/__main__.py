"""Fetch the Nacos servers of the test kit now: `python -m sofa_registry_adapters.testing.services.nacos [2] [3]`."""

from __future__ import annotations

import sys

from sofa_registry_adapters.testing.services.nacos.jars import LINES, FetchFailed, class_path, folder


def main(arguments: list[str]) -> int:
    """Fetch the lines that are named, or all; the exit status."""
    chosen = arguments or [str(number) for number in LINES]
    if not set(chosen) <= {str(number) for number in LINES}:
        sys.stderr.write(f"usage: the lines of Nacos to fetch, from {', '.join(map(str, LINES))}\n")
        return 2
    for number in chosen:
        line = LINES[int(number)]
        try:
            class_path(line)
        except FetchFailed as error:
            sys.stderr.write(f"{error}\n")
            return 1
        sys.stdout.write(f"Nacos {line.version} is in {folder()}\n")
    return 0


sys.exit(main(sys.argv[1:]))
