"""The scripts that run in the server, each with what they share in front of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

Argument = bytes | str | int
Command = tuple[Argument, ...]

NAMES = (
    "put",
    "delete",
    "compare_and_put",
    "compare_and_delete",
    "look",
    "own",
    "read",
    "changes",
    "drop",
)


class Script(NamedTuple):
    """A script and the digest by which the server knows it."""

    body: bytes
    digest: bytes

    def call(self, keys: tuple[bytes, ...], *arguments: Argument) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


def load_scripts() -> Mapping[str, Script]:
    """All scripts by name."""
    folder = resources.files(__package__).joinpath("scripts")
    shared = folder.joinpath("common.lua").read_bytes()
    scripts = {}
    for name in NAMES:
        body = shared + folder.joinpath(f"{name}.lua").read_bytes()
        scripts[name] = Script(body, hashlib.sha1(body, usedforsecurity=False).hexdigest().encode())
    return scripts
