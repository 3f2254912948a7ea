"""Secrets by reference, so that none has to stand in a file or a variable that others read.

::

    ${NAME}         the variable NAME of the environment
    ${file:/path}   what the file says, without the line breaks at its end
    $${             a literal ${

References stand in the URLs and the options of ``sofa-registry.toml``, and in the URLs of variables. In a URL they are put in
as they are; before the ``@`` and behind the ``?`` they are percent-encoded, so that a password may have any character.
No message shows what was put in: it shows the reference. A relative path begins at the folder of ``sofa-registry.toml``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.settings import Filled

FILE = "file:"
LONGEST = 64 * 1024
"""Bytes of a file that is referred to."""

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([^{}]*)\})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Place(NamedTuple):
    """Where a text with references stands: in words, and the folder at which relative paths begin."""

    words: str
    folder: Path = Path()


def fill(text: str, place: Place) -> str:
    """The text with its references filled in. Raises `InvalidURL` where one leads nowhere."""
    return _filled(text, place, lambda value, _: value)


def fill_url(url: str, place: Place) -> str:
    """The URL with its references filled in, percent-encoded where a URL needs it. Raises `InvalidURL`."""
    from urllib.parse import quote

    # What a reference says itself, such as the '/' of a path, is no part of the URL.
    masked = _REFERENCE.sub(lambda found: "_" * len(found[0]), url)
    question = masked.find("?") if "?" in masked else len(masked)
    at = masked.rfind("@", 0, question)

    def encoded(value: str, position: int) -> str:
        return quote(value, safe="") if position < at or position > question else value

    filled = _filled(url, place, encoded)
    if isinstance(filled, Filled):
        filled.again = lambda: fill_url(url, place)
    return filled


def literal_password(url: str) -> bool:
    """Whether a password stands in the URL, in full or in part, and not by reference."""
    if isinstance(url, Filled):
        url = _REFERENCE.sub(lambda found: found[0][2:] if found[0] == "$${" else "", url.template)
    credentials = url.partition("://")[2].partition("?")[0].rpartition("@")[0]
    return bool(credentials.partition(":")[2])


def _filled(text: str, place: Place, encode: Callable[[str, int], str]) -> str:
    """The text as it is where it has no reference, or else one that shows its references only."""
    if "${" not in text:
        return text
    pieces, end = [], 0
    for found in _REFERENCE.finditer(text):
        value = "${" if found[0] == "$${" else _value(found[1], place)
        pieces += [text[end : found.start()], encode(value, found.start())]
        end = found.end()
    return Filled("".join((*pieces, text[end:])), text)


def _value(reference: str | None, place: Place) -> str:
    if reference is not None and reference.startswith(FILE):
        return _content(place.folder / reference.removeprefix(FILE), place)
    if reference is None or not _VARIABLE.fullmatch(reference):
        # What stands there may be a secret in the wrong place.
        raise InvalidURL(
            f"{place.words}: a reference cannot be read: write ${{NAME}} or ${{file:/path}}, and $${{ for ${{"
        )
    value = os.environ.get(reference, "")
    if not value:
        raise InvalidURL(f"{place.words}: it refers to the variable {reference}, which is not set, or empty")
    return value


def _content(path: Path, place: Place) -> str:
    try:
        # A pipe or a device would be waited for.
        if not path.is_file():
            raise InvalidURL(f"{place.words}: it refers to the file {path}, which is not there, or is no file")
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidURL(f"{place.words}: it refers to the file {path}, which cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise InvalidURL(f"{place.words}: it refers to the file {path}, which is no text in UTF-8") from None
    if not text or len(content) > LONGEST:
        what = f"has more than {LONGEST} bytes" if text else "is empty"
        raise InvalidURL(f"{place.words}: it refers to the file {path}, which {what}")
    return text
