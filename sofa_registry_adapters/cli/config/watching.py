"""The command `watch`: one line a change."""

from __future__ import annotations

import contextlib

from sofa_registry_adapters.cli.config.values import Place, item_json, show
from sofa_registry_adapters.cli.screen import clock, note, say, say_json
from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.model.config import ConfigChange, ConfigItem


def watch(at: Place, *, content: bool, as_json: bool) -> None:
    """Print what changes until interrupted; the values themselves only where they were asked for."""
    with at.center.watch(at.key, timeout=at.timeout) as changes, contextlib.suppress(KeyboardInterrupt):
        for change in changes:
            if as_json:
                say_json(change_json(change, content=content))
                continue
            say(f"{clock()}  {change.key}  {summary(change)}")
            if content and change.item is not None:
                _show(change.item)


def _show(item: ConfigItem) -> None:
    """The value, or why it cannot be shown: that is no reason to watch no more."""
    try:
        show(item)
    except InvalidArgument as error:
        note(str(error))


def summary(change: ConfigChange) -> str:
    """A change in a few words."""
    item = change.item
    if item is None:
        return "no value" if change.previous is None else "removed"
    words = [item.revision, f"{len(item.data)} bytes", item.content_type, item.author and f"by {item.author}"]
    if item.stale:
        words.append("stale")
    return "  ".join(filter(None, words))


def change_json(change: ConfigChange, *, content: bool) -> dict[str, object]:
    """A change for a machine: when, and the value after it; null where there is none."""
    item = change.item
    return {
        "time": clock(),
        "key": change.key.key,
        "group": change.key.group,
        "previous": None if change.previous is None else change.previous.revision,
        "item": None if item is None else item_json(item, content=content),
    }
