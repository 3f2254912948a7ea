"""The command line, `sofa-registry`. Needs the extra ``cli``; importing this package does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 trouble with the registry, 2 wrong usage, 130 interrupted."""
    _open_what_is_closed()
    try:
        from sofa_registry_adapters.cli.app import run
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        print(  # noqa: T201  a message to the user
            f"sofa-registry: needs the library {error.name!r}, which is not installed: "
            "pip install 'sofa-registry-adapters[cli]'",
            file=sys.stderr,
        )
        return 2
    return run(sys.argv[1:] if arguments is None else arguments)


def _open_what_is_closed() -> None:
    """A standard stream that is closed leads nowhere from now on: no file or connection of ours may get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
