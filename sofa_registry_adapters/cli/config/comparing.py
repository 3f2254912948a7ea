"""The command `diff`: what differs between two values."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from sofa_registry_adapters.cli.config.values import Place, absent, present, read_file, text_or_bytes
from sofa_registry_adapters.cli.screen import note, say
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.model.config import ConfigItem

_LOOKED_THROUGH = 1000


def diff(at: Place, old: str | None, new: str | None, file: Path | None) -> None:
    """Print the lines that differ."""
    if file is not None:
        if old is not None:
            raise InvalidArgument("--file is compared with the present value: leave the revision out")
        item = present(at)
        _compare((item.revision, item.content), (str(file), text_or_bytes(read_file(file))))
        return
    found = at.center.history(at.key, limit=_LOOKED_THROUGH, timeout=at.timeout)
    if not found:
        absent(at)
    after = found[0] if new is None else _of(found, new, at)
    if old is not None:
        before = _of(found, old, at)
    else:
        place = found.index(after) + 1
        if place == len(found):
            raise InvalidArgument(f"there is no value of {at.key} before {after.revision}")
        before = found[place]
    _compare((before.revision, before.content), (after.revision, after.content))


def _of(found: Sequence[ConfigItem], revision: str, at: Place) -> ConfigItem:
    for item in found:
        if item.revision == revision:
            return item
    raise InvalidArgument(f"there is no value of the revision {revision!r} in the history of {at.key}")


def _compare(before: tuple[str, str | bytes], after: tuple[str, str | bytes]) -> None:
    if before[1] == after[1]:
        note("they are equal")
        return
    if isinstance(before[1], bytes) or isinstance(after[1], bytes):
        say(f"they differ: {len(before[1])} and {len(after[1])}, and one of them is no text")
        return
    lines = difflib.unified_diff(before[1].splitlines(), after[1].splitlines(), before[0], after[0], lineterm="")
    shown = list(lines)
    for line in shown:
        say(line)
    if not shown:
        say("they differ in line ends only")
