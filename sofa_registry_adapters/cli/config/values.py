"""The commands that read and write: `get`, `set`, `rm`, `ls`, `history`, `rollback`."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Iterator
from getpass import getpass
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import typer

from sofa_registry_adapters.cli.screen import console, moment, note, say, say_json, table
from sofa_registry_adapters.config import ConfigCenter
from sofa_registry_adapters.errors import InvalidArgument, RegistryError, Unsupported
from sofa_registry_adapters.model.config import ABSENT, Absent, ConfigItem, ConfigKey

TYPES = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml", ".properties": "properties", ".xml": "xml"}
TITLES = ("revision", "published", "author", "type", "bytes")
_PRIVATE = 0o600
MOST_BYTES = 64_000_000
"""No product takes nearly as much; each says itself how much it takes."""


class Place(NamedTuple):
    """An open config center, and the key that is meant there."""

    center: ConfigCenter
    key: ConfigKey
    timeout: float


class Wish(NamedTuple):
    """What the user asked to be published."""

    content: str | None
    file: Path | None
    content_type: str | None
    expect: str | None
    create: bool

    @property
    def expected(self) -> str | Absent | None:
        """The condition. Raises `InvalidArgument` for two of them."""
        if self.create and self.expect is not None:
            raise InvalidArgument("--create means that there is no value yet, and --expect that there is one: give one")
        return ABSENT if self.create else self.expect


def opened(url: str | None) -> ConfigCenter:
    """A center that leaves no values on this machine's disk, unless its URL asks for it."""
    center = ConfigCenter(url)
    return center if center.target.text("snapshot") else ConfigCenter(url, options={"snapshot": "off"})


@contextlib.contextmanager
def place(url: str | None, key: str, group: str, timeout: float) -> Iterator[Place]:
    """Where a command works."""
    where = ConfigKey(key, group)
    with opened(url) as center:
        yield Place(center, where, timeout)


def get(at: Place, output: Path | None, *, as_json: bool) -> None:
    """Print the present value, or write it into a file."""
    item = present(at)
    if item.stale:
        note("the config center cannot be reached: this is the last known good value")
    if output is not None:
        _write_private(output, item.data)
    elif as_json:
        say_json(item_json(item, content=True))
    else:
        show(item)


def show(item: ConfigItem) -> None:
    """Print a value: as it is into a pipe, without what could steer it on a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(item.data)
        sys.stdout.buffer.flush()
        return
    if isinstance(item.content, bytes):
        raise InvalidArgument(f"the value has {len(item.content)} bytes that are no text: write it with --output FILE")
    for line in item.content.splitlines():
        say(line)


def set_value(at: Place, wish: Wish, *, as_json: bool) -> None:
    """Publish a value, and say its revision."""
    expected = wish.expected
    content = _content(wish)
    revision = at.center.publish(
        at.key,
        content,
        content_type=type_of(at.key, wish.content_type, content),
        expected_revision=expected,
        timeout=at.timeout,
    )
    say_revision(revision, as_json=as_json)


def remove(at: Place, expect: str | None) -> None:
    """Remove the value."""
    if not at.center.remove(at.key, expected_revision=expect, timeout=at.timeout):
        absent(at)


def keys(url: str | None, group: str, timeout: float, *, as_json: bool) -> None:
    """Print the keys of a group."""
    with opened(url) as center:
        found = center.keys(group=group, timeout=timeout)
        if as_json:
            say_json(list(found))
            return
        for key in found:
            say(key)
        if not found:
            note(f"no keys in the group {group} on {center.target}")


def history(at: Place, limit: int, *, as_json: bool) -> None:
    """Print what there was, without the values themselves."""
    found = at.center.history(at.key, limit=limit, timeout=at.timeout)
    if as_json:
        say_json([item_json(item) for item in found])
    elif found:
        console().print(table(TITLES, (_row(item) for item in found)))
    else:
        absent(at)


def rollback(at: Place, revision: str | None, expect: str | None, *, as_json: bool) -> None:
    """Publish an earlier value again."""
    fresh = at.center.rollback(at.key, revision, expected_revision=expect, timeout=at.timeout)
    say_revision(fresh, as_json=as_json)


def say_revision(revision: str, *, as_json: bool = False) -> None:
    """Print the revision of what was published."""
    if as_json:
        say_json({"revision": revision})
    else:
        say(revision)


def present(at: Place) -> ConfigItem:
    """The present value; without one the command ends."""
    item = at.center.get(at.key, timeout=at.timeout)
    if item is None:
        absent(at)
    return item


def absent(at: Place) -> NoReturn:
    """Say that the key has no value, and end."""
    note(f"{at.key} has no value on {at.center.target}{_nearest(at)}")
    raise typer.Exit(1)


def type_of(key: ConfigKey, given: str | None, content: str | bytes) -> str:
    """The content type: as it was given, or as the key ends."""
    if given is not None:
        return given
    return TYPES.get(Path(key.key).suffix.lower(), "") if isinstance(content, str) else ""


def text_or_bytes(data: bytes) -> str | bytes:
    """What came from a file or a pipe: text if it is UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def item_json(item: ConfigItem, *, content: bool = False) -> dict[str, object]:
    """A value for a machine; its content only where it was asked for."""
    said: dict[str, object] = {
        "key": item.key,
        "group": item.group,
        "revision": item.revision,
        "content_type": item.content_type,
        "updated_at": item.updated_at,
        "author": item.author,
        "stale": item.stale,
        "bytes": len(item.data),
    }
    if content:
        said["content" if isinstance(item.content, str) else "base64"] = item.content
    return said


def _row(item: ConfigItem) -> tuple[str, ...]:
    return item.revision, moment(item.updated_at), item.author, item.content_type, str(len(item.data))


def _content(wish: Wish) -> str | bytes:
    if wish.content is not None and wish.file is not None:
        raise InvalidArgument("the value and --file are both given: keep one")
    if wish.content is not None and wish.content != "-":
        return wish.content
    if wish.file is not None:
        return text_or_bytes(read_file(wish.file))
    if wish.content is None and sys.stdin.isatty():
        # What is typed here may be a secret.
        return getpass("value (not shown, one line): ")
    found = _read(sys.stdin.buffer, "standard input")
    if not found and wish.content is None:
        # Most probably what was to write it has failed.
        raise InvalidArgument("standard input is empty, and nothing was published: for an empty value say '' or -")
    return text_or_bytes(found)


def read_file(path: Path) -> bytes:
    """What is in a file. Raises `InvalidArgument` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None


def _read(source: BinaryIO, name: str) -> bytes:
    """All of it, unless it never ends."""
    found = source.read(MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise InvalidArgument(f"{name} has more than {MOST_BYTES} bytes, far more than a value may have")
    return found


def _write_private(path: Path, data: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, _PRIVATE)
            file.write(data)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror}") from None


def _nearest(at: Place) -> str:
    """A hint at a key with a name like this one; empty if there is none."""
    known: list[str] = []
    with contextlib.suppress(RegistryError, Unsupported):
        known = [key for key in at.center.keys(group=at.key.group, timeout=at.timeout) if key != at.key.key]
    near = difflib.get_close_matches(at.key.key, known, n=1)
    return f": did you mean {near[0]!r}?" if near else ""
