"""The command `edit`: the value in an editor, published only over what was opened."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import typer

from sofa_registry_adapters.cli.config.values import Place, read_file, say_revision, text_or_bytes, type_of
from sofa_registry_adapters.cli.screen import note
from sofa_registry_adapters.errors import InvalidArgument, RegistryError, Unavailable
from sofa_registry_adapters.model.config import ABSENT, ConfigItem

FALLBACK = "vi"


def edit(at: Place, content_type: str | None) -> None:
    """Edit, and publish if the value is still the one that was opened. What was written is never lost."""
    item = _editable(at)
    before = "" if item is None else item.text
    suffix = Path(at.key.key).suffix
    path = Path(tempfile.mkdtemp(prefix="sofa-registry-")) / f"value{suffix if suffix.isascii() else ''}"
    path.touch(mode=0o600)
    path.write_text(before, encoding="utf-8", newline="")
    try:
        _run_editor(path)
        _publish(at, item, before, text_or_bytes(read_file(path)), content_type)
    except BaseException:
        if path.exists():
            note(f"what you wrote is in {path}")
        raise
    _forget(path)


def _publish(at: Place, item: ConfigItem | None, before: str, after: str | bytes, content_type: str | None) -> None:
    if after == before:
        note(f"{at.key} was left as it is")
        return
    kind = content_type if content_type is not None else (item.content_type or None if item else None)
    try:
        revision = at.center.publish(
            at.key,
            after,
            content_type=type_of(at.key, kind, after),
            expected_revision=ABSENT if item is None else item.revision,
            timeout=at.timeout,
        )
    except Unavailable:
        note("nobody knows whether it was published: look with get")
        raise
    except RegistryError:
        note("nothing was published")
        raise
    say_revision(revision)


def _editable(at: Place) -> ConfigItem | None:
    item = at.center.get(at.key, timeout=at.timeout)
    if item is not None and not isinstance(item.content, str):
        raise InvalidArgument(f"{at.key} has bytes that are no text: use get --output and set --file")
    if item is not None and item.stale:
        raise InvalidArgument("the config center cannot be reached: the last known good value is not to be edited")
    return item


def _run_editor(path: Path) -> None:
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or FALLBACK
    try:
        with _interruptions_left_to_it():
            code = subprocess.run([*shlex.split(command), str(path)], check=False).returncode  # noqa: S603  the user's own editor
    except (OSError, ValueError) as error:
        _forget(path)
        raise InvalidArgument(f"the editor {command!r} cannot be run ({error}): set EDITOR") from None
    if code:
        note(f"the editor ended with {code}: nothing was published")
        raise typer.Exit(1)


@contextlib.contextmanager
def _interruptions_left_to_it() -> Iterator[None]:
    """A terminal sends Ctrl-C to the editor and to us: what it means there is the editor's affair, and it must live to say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not SIG_IGN, which the editor would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _forget(path: Path) -> None:
    """Remove the file; what an editor left beside it stays."""
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:
        note(f"your editor left something in {path.parent}")
