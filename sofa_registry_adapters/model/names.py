"""Service names: the rules, the text form and the reversible encoding that stores use in paths."""

from __future__ import annotations

import re

import msgspec

from sofa_registry_adapters.errors import InvalidName

MAX_LENGTH = 255
"""Characters in a name, version, group or instance id."""

_ESCAPES = re.compile(r"%(25|3[Aa])")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SIMPLE = re.compile(r"[A-Za-z0-9._:-]+")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def check_text(value: object, what: str, *, empty: bool = False) -> str:
    """Return ``value`` if it is text that can be a name; raise `InvalidName` otherwise.

    Any Unicode text of 1 to 255 characters is a name, except control characters, line breaks and
    unpaired surrogates. Case matters, and so does the Unicode normal form.
    """
    if type(value) is str and 0 < len(value) <= MAX_LENGTH and value.isascii() and value.isprintable():
        return value
    if not isinstance(value, str):
        raise InvalidName(f"{what} must be text, not {type(value).__name__}: {value!r}")
    if not value:
        if empty:
            return value
        raise InvalidName(f"{what} is empty: give it at least one character")
    if len(value) > MAX_LENGTH:
        raise InvalidName(f"{what} has {len(value)} characters, at most {MAX_LENGTH} are allowed: {value[:40]!r}…")
    if (control := _CONTROL.search(value)) is not None:
        raise InvalidName(
            f"{what} {value!r} has the control character {control[0]!r} at position {control.start()}: remove it"
        )
    return str.__str__(value)


def are_plain(*texts: str) -> bool:
    """Whether these, all at once, are certainly what `check_text` takes, but that one may be empty."""
    text = "".join(texts)
    return len(text) <= MAX_LENGTH and text.isascii() and text.isprintable()


def encode_segment(text: str, safe: str = "") -> str:
    """Text as one path segment: ASCII letters, digits, ``._-`` and ``safe`` stay, the rest is ``%XX`` of UTF-8.

    Different texts give different segments, and no segment is ``.``, ``..`` or has a ``/``.
    """
    if _SIMPLE.fullmatch(text) and not text.startswith(".") and (safe == ":" or ":" not in text):
        return text
    plain = _PLAIN | frozenset(safe.encode())
    raw = text.encode()
    if not raw.strip(b"."):
        return "".join(f"%{byte:02X}" for byte in raw)
    if plain.issuperset(raw):
        return text
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in raw)


def decode_segment(segment: str) -> str:
    """The text that `encode_segment` was given. Raises ValueError if it was not made by it."""
    raw = bytearray()
    position = 0
    while position < len(segment):
        character = segment[position]
        if character == "%":
            digits = segment[position + 1 : position + 3]
            if len(digits) != 2 or not digits.isalnum():
                raise ValueError(f"not an encoded name: {segment!r}")
            raw.append(int(digits, 16))
            position += 3
        else:
            raw += character.encode()
            position += 1
    return raw.decode()


class ServiceKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """What a service is called: a name, and a version and a group where there are any.

    The text form is ``name[:version[:group]]``; a literal ``:`` is written ``%3A`` and a literal ``%``
    that would be mistaken for an escape ``%25``. ``ServiceKey.parse(str(key)) == key``.
    """

    name: str
    version: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        check_text(self.name, "the service name")
        check_text(self.version, "the service version", empty=True)
        check_text(self.group, "the service group", empty=True)

    @classmethod
    def parse(cls, text: str | ServiceKey) -> ServiceKey:
        """Read the text form. Raises `InvalidName`."""
        if isinstance(text, ServiceKey):
            return text
        if not isinstance(text, str):
            raise InvalidName(f"a service is named by text or a ServiceKey, not {type(text).__name__}")
        parts = text.split(":")
        if len(parts) > 3:
            raise InvalidName(
                f"the service {text!r} has {len(parts)} parts, but name:version:group are three: "
                "write a literal ':' as '%3A'"
            )
        return cls(*(_ESCAPES.sub(lambda match: chr(int(match[1], 16)), part) for part in parts))

    def __str__(self) -> str:
        parts = [self.name, self.version, self.group]
        while not parts[-1]:
            parts.pop()
        return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)

    @property
    def segment(self) -> str:
        """The key as one path segment of a store; `from_segment` reads it back."""
        parts = [self.name, self.version, self.group]
        while not parts[-1]:
            parts.pop()
        return ":".join(encode_segment(part) if part else "" for part in parts)

    @classmethod
    def from_segment(cls, segment: str) -> ServiceKey:
        """Read `segment` back. Raises ValueError for a segment that no key has."""
        parts = segment.split(":")
        if len(parts) > 3:
            raise ValueError(f"not the segment of a service: {segment!r}")
        key = cls(*(decode_segment(part) for part in parts))
        if key.segment != segment:
            raise ValueError(f"not the segment of a service: {segment!r}")
        return key
