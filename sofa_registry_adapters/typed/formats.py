"""Text in YAML, TOML, JSON or as properties, read into plain mappings within bounds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from sofa_registry_adapters.typed.bounds import MAX_DEPTH, MAX_LENGTH, Tree, Unusable, check_size
from sofa_registry_adapters.typed.properties import read_entries, read_properties
from sofa_registry_adapters.typed.yaml_text import check_yaml, read_yaml

Format = Literal["json", "properties", "toml", "yaml"]

_ENDINGS: dict[str, Format] = {
    "json": "json",
    "properties": "properties",
    "toml": "toml",
    "yaml": "yaml",
    "yml": "yaml",
}
_SILENT = {"", "octet-stream", "plain", "text"}
"""Content types that do not say what kind of text it is."""
_DOTTED = re.compile(
    r'"""(?s:\\.|.)*?(?:"""|\Z)'
    r"|'''(?s:.)*?(?:'''|\Z)"
    r'|"(?:\\.|[^"\\\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+|[\w-]++|[ \t]++|(?s:.)"
)
"""A piece of TOML: a string, also one without an end, a comment, a word, blanks, any other character."""


def format_of(key: str, content_type: str) -> Format:
    """By the content type, as in ``yaml`` or ``application/yaml``; where that says nothing, by the key's ending. Raises `Unusable`."""
    declared = content_type.partition(";")[0].strip().rpartition("/")[2].lower().removeprefix("x-")
    declared = declared.removeprefix("java-")
    if declared not in _SILENT:
        if declared in _ENDINGS:
            return _ENDINGS[declared]
        raise Unusable(f"its content type is none of {', '.join(sorted(_ENDINGS))}")
    named = format_of_name(key)
    if named is None:
        raise Unusable(
            f"nothing says what it is written in: give it a content type, or end its key in {', '.join('.' + one for one in sorted(_ENDINGS))}"
        )
    return named


def format_of_name(key: str) -> Format | None:
    """By the key's ending."""
    return _ENDINGS.get(key.rpartition(".")[2].lower()) if "." in key else None


def parse(content: str | bytes, kind: Format) -> Tree:
    """The mapping that the content describes. Raises `Unusable`; `MissingDependency` for YAML without PyYAML."""
    if len(content) > MAX_LENGTH:
        raise Unusable(f"it is longer than {MAX_LENGTH} characters")
    found = _READERS[kind](_text(content))
    if not isinstance(found, dict):
        raise Unusable(f"it is no mapping of names to values, but a {type(found).__name__}")
    check_size(found)
    return found


def check_syntax(content: str | bytes, content_type: str) -> None:
    """Refuse what is not what it is declared to be, where that can be told here and soon. Raises `Unusable`."""
    try:
        kind = format_of("", content_type)
    except Unusable:
        return
    # JSON is read in no time; of the others only as much is looked at as `parse` takes.
    if kind == "json" or len(content) <= MAX_LENGTH:
        _CHECKS[kind](_text(content))


def _text(content: str | bytes) -> str:
    try:
        text = content if isinstance(content, str) else content.decode()
    except UnicodeDecodeError as error:
        raise Unusable(f"it is not UTF-8, at byte {error.start}") from None
    return text.removeprefix("\ufeff")


def _read_json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise Unusable(f"it is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise Unusable(f"it is not JSON: {error}") from None


def _read_toml(text: str) -> object:
    import tomllib

    _check_dotted(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise Unusable(f"it is nested more than {MAX_DEPTH} levels deep") from None
    except tomllib.TOMLDecodeError as error:
        raise Unusable(f"it is not TOML: {error}") from None
    except (ValueError, OverflowError):
        raise Unusable("it is not TOML: a number or a time is out of bounds") from None


def _check_dotted(text: str) -> None:
    """Refuse names of too many parts first: what tomllib does with them takes the square of their number."""
    parts = 0
    for piece in _DOTTED.finditer(text):
        found = piece.group()
        if found == ".":
            parts += 1
            if parts > MAX_DEPTH:
                raise Unusable(f"it is nested more than {MAX_DEPTH} levels deep")
        elif not (found.isspace() and found != "\n") and not (found[0].isalnum() or found[0] in "_-\"'"):
            parts = 0


_READERS: dict[Format, Callable[[str], object]] = {
    "json": _read_json,
    "properties": read_properties,
    "toml": _read_toml,
    "yaml": read_yaml,
}
_CHECKS: dict[Format, Callable[[str], object]] = {**_READERS, "properties": read_entries, "yaml": check_yaml}
