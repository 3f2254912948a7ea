"""What a service or a value is called in Nacos: its key in text form, where Nacos takes that, so that others find it. No I/O.

Nacos takes 512 characters, its clients fewer: letters, digits and ``-_:.`` up to 200 are safe everywhere. Anything else becomes ``__XX``, a byte
of UTF-8 in upper-case hexadecimal digits. A longer name keeps its beginning and ends in ``__H`` and a digest; the key itself is then in the metadata
of the instances, as `SERVICE`. Values of configuration have no such place: a key that would need one is refused, a group is never asked for
by its name in Nacos. A ``:`` in them stays.
"""

from __future__ import annotations

import hashlib
import re

from sofa_registry_adapters.errors import InvalidName
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.model.names import ServiceKey

MAX_LENGTH = 200
SERVICE = "sofa.service"
"""The metadata entry with the key of a service whose name had to be shortened."""

MAX_KEY = 255
MAX_GROUP = 128

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_COLON = _PLAIN | frozenset(b":")
_ESCAPE = re.compile("__([0-9A-F]{2})")
_LOOKS_ESCAPED = re.compile("_(?=_(?:[0-9A-F]{2}|H))")
_SHORTENED = "__H"
_DIGEST_BYTES = 20


def service_name(service: ServiceKey) -> str:
    """The name of the service in Nacos."""
    parts = [service.name, service.version, service.group]
    while not parts[-1]:
        parts.pop()
    return _shortened(":".join(map(_encode, parts)), MAX_LENGTH)


def is_shortened(service: ServiceKey) -> bool:
    """Whether the name alone does not tell the key."""
    return _SHORTENED in service_name(service)


def service_key(name: str) -> ServiceKey | None:
    """The key that has this name; None if none has, or if the name alone does not tell."""
    parts = name.split(":")
    if len(parts) > 3 or _SHORTENED in name:
        return None
    try:
        key = ServiceKey(*map(_decode, parts))
    except (InvalidName, UnicodeDecodeError):
        return None
    return key if service_name(key) == name else None


def config_name(key: ConfigKey) -> tuple[str, str]:
    """The data id and the group of a value. Raises `InvalidName`."""
    data_id, group = _encode_config(key.key), _encode_config(key.group)
    if len(data_id) > MAX_KEY:
        raise InvalidName(
            f"the configuration key {key.key!r} has {len(data_id)} characters in Nacos, which takes {MAX_KEY}: letters, digits "
            "and '-_:.' count once, each byte of any other character four times"
        )
    return data_id, _shortened(group, MAX_GROUP)


def config_key(data_id: str) -> str | None:
    """The key that has this data id; None if none has."""
    try:
        key = _decode(data_id)
        return key if config_name(ConfigKey(key))[0] == data_id else None
    except (InvalidName, UnicodeDecodeError):
        return None


def _encode_config(text: str) -> str:
    # A name of dots only would be a folder among the server's files.
    return _encode(text, _COLON) if text.strip(".") else "".join(f"__{ord(dot):02X}" for dot in text)


def _shortened(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    # A piece of an escape at the end would be read as text; the digest tells anyway.
    return name[: most - len(_SHORTENED) - len(digest)] + _SHORTENED + digest


def _encode(text: str, plain: frozenset[int] = _PLAIN) -> str:
    text = _LOOKS_ESCAPED.sub("\0", text)
    raw = text.encode()
    if plain.issuperset(raw):
        return text
    # No key has a NUL; here it stands for an underscore that would be read as the beginning of an escape.
    return "".join(chr(byte) if byte in plain else f"__{byte or ord('_'):02X}" for byte in raw)


def _decode(text: str) -> str:
    raw = bytearray()
    position = 0
    for escape in _ESCAPE.finditer(text):
        raw += text[position : escape.start()].encode()
        raw.append(int(escape[1], 16))
        position = escape.end()
    raw += text[position:].encode()
    return raw.decode()
