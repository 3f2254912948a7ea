"""Which registry, and which configuration center: by URL, by name, or as the environment and ``sofa-registry.toml`` say.

::

    [registry.default]              # what Registry() uses; [registry] with a url of its own is the same
    url = "redis://app:${REDIS_PASSWORD}@redis.example:6379/0"
    plugins = ["alarm"]             # installed plug-ins whose listeners act

    [registry.default.options]
    namespace = "shop"
    lease = "5s"

    [registry.orders]               # what Registry("orders") uses
    url = "zookeeper://zk1.example,zk2.example/sofa"

    [config.default]                # what ConfigCenter() uses; without it what Registry() uses
    url = "etcd://etcd.example:2379"

A name has letters, digits, ``-`` and ``_``. Text without ``://`` is a name. The variables ``SOFA_REGISTRY_URL``,
``SOFA_CONFIG_URL`` and, for a named one, ``SOFA_REGISTRY_ORDERS_URL`` and ``SOFA_CONFIG_ORDERS_URL`` take the place of the whole
entry, its options included; the first two may have a name as well. Nothing here does network I/O.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.references import Place, fill, fill_url
from sofa_registry_adapters.settings import redacted, unknown
from sofa_registry_adapters.spi.options import Value

URL_VARIABLE = "SOFA_REGISTRY_URL"
CONFIG_URL_VARIABLE = "SOFA_CONFIG_URL"
FILE_VARIABLE = "SOFA_REGISTRY_FILE"
FILE_NAME = "sofa-registry.toml"
DEFAULT_URL = "local://"
DEFAULT = "default"
LARGEST_FILE = 1_000_000
"""Bytes."""

Section = Literal["registry", "config"]

_WHAT: Mapping[str, str] = {"registry": "registry", "config": "configuration center"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Settings(msgspec.Struct, frozen=True):
    """What is meant, where that is said, and what the file adds to it. ``repr()`` shows no secret.

    ``origin`` is a phrase for messages; ``path`` is the file that decided, if one did.
    """

    url: str
    origin: str
    options: Mapping[str, Value] = {}
    plugins: tuple[str, ...] = ()
    path: Path | None = None

    def __repr__(self) -> str:
        return f"<Settings {redacted(self.url)} from {self.origin}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("url", redacted(self.url)), ("origin", self.origin)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says of one registry, or of one center."""

    url: str = ""
    options: dict[str, str | int | float | bool] = {}
    plugins: list[str] = []


class File(msgspec.Struct, frozen=True):
    """A file of settings that was read and checked; without a path there is none."""

    path: Path | None = None
    entries: Mapping[tuple[Section, str], Entry] = {}

    def names(self, section: Section) -> list[str]:
        """The names of a section, and of what it falls back to."""
        sections = (section, "registry")
        return list(dict.fromkeys(name for kind, name in self.entries if kind in sections))


def find_settings(url: str | None = None) -> Settings:
    """What `Registry` uses for ``url``: a URL, a name, or None.

    None is SOFA_REGISTRY_URL, then ``[registry.default]`` of the file, then ``local://``. Raises `InvalidURL`.
    """
    return _find("registry", url)


def find_config_settings(url: str | None = None) -> Settings:
    """What `ConfigCenter` uses for ``url``: a URL, a name, or None.

    None is SOFA_CONFIG_URL, then ``[config.default]`` of the file, then what `find_settings` says; a name that is no center's is a
    registry's. Raises `InvalidURL`.
    """
    return _find("config", url)


def _find(section: Section, url: str | None) -> Settings:
    if url is None:
        return _default(section)
    if not isinstance(url, str):
        raise InvalidURL(f"a registry's URL is text, not {type(url).__name__}")
    # What is neither a URL nor a name is refused where the URL is parsed.
    return _by_name(section, url) if _NAME.fullmatch(url) else Settings(url, "the argument")


def _default(section: Section) -> Settings:
    for variable in (CONFIG_URL_VARIABLE if section == "config" else URL_VARIABLE, variable_of(section, DEFAULT)):
        text = os.environ.get(variable)
        if text and text != DEFAULT:
            return _by_name(section, text) if _NAME.fullmatch(text) else _of_variable(variable, text)
    file = read_file()
    if (section, DEFAULT) in file.entries:
        return _of_file(file, section, DEFAULT)
    return _default("registry") if section == "config" else Settings(DEFAULT_URL, "the default")


def _by_name(section: Section, name: str) -> Settings:
    if name == DEFAULT:
        return _default(section)
    kinds: tuple[Section, ...] = ("registry",) if section == "registry" else (section, "registry")
    for kind in kinds:
        if text := os.environ.get(variable_of(kind, name)):
            return _of_variable(variable_of(kind, name), text)
        if (kind, name) in (found := read_file()).entries:
            return _of_file(found, kind, name)
    file = read_file()
    what = f"no {_WHAT[section]} is called"
    advice = f"name it in {file.path or FILE_NAME} or in the variable {variable_of(section, name)}; a URL has '://'"
    if names := file.names(section):
        raise InvalidURL(f"{unknown(what, name, names)}; {advice}")
    raise InvalidURL(f"{what} {name!r}: {advice}")


def variable_of(section: Section, name: str) -> str:
    """The variable that takes the place of the named entry."""
    return f"SOFA_{section.upper()}_{name.upper().replace('-', '_')}_URL"


def _of_variable(variable: str, text: str) -> Settings:
    origin = f"the variable {variable}"
    return Settings(fill_url(text, Place(origin)), origin)


def _of_file(file: File, section: Section, name: str) -> Settings:
    assert file.path is not None  # noqa: S101  it has an entry
    entry, origin = file.entries[section, name], f"[{section}.{name}] in {file.path}"
    folder = file.path.absolute().parent
    options = {
        option: fill(value, Place(f"the option {option} of {origin}", folder)) if isinstance(value, str) else value
        for option, value in entry.options.items()
    }
    url = fill_url(entry.url, Place(f"the url of {origin}", folder)) or DEFAULT_URL
    return Settings(url, origin, options, tuple(entry.plugins), file.path)


def read_file() -> File:
    """The file that SOFA_REGISTRY_FILE names, or ``sofa-registry.toml`` in the working directory. Raises `InvalidURL`."""
    import tomllib

    named = os.environ.get(FILE_VARIABLE)
    path = Path(named or FILE_NAME)
    try:
        if not path.is_file():
            if named:
                raise InvalidURL(f"{FILE_VARIABLE} names {named!r}, which is not a file")
            return File()
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InvalidURL(f"{path} cannot be read: it has more than {LARGEST_FILE} bytes")
        return File(path, _entries(tomllib.loads(content.decode("utf-8-sig")), path))
    except InvalidURL:
        raise
    except RecursionError:
        raise InvalidURL(f"{path} cannot be read: it is nested too deeply") from None
    except (ValueError, OSError) as error:
        raise InvalidURL(f"{path} cannot be read: {error}") from None


def _entries(content: Mapping[str, Any], path: Path) -> dict[tuple[Section, str], Entry]:
    entries: dict[tuple[Section, str], Entry] = {}
    for key in content:
        if key not in _WHAT:
            raise InvalidURL(unknown(f"{path} has no table", key, _WHAT))
    sections: tuple[Section, ...] = ("registry", "config")
    for section in sections:
        for name, fields in _tables(section, content.get(section, {}), path).items():
            entries[section, name] = _entry(f"[{section}.{name}] in {path}", name, fields)
    return entries


def _tables(section: Section, content: object, path: Path) -> dict[str, object]:
    """The tables of a section by name; what stands in the section itself is the default one."""
    if not isinstance(content, dict):
        raise InvalidURL(f"{path}: write [{section}] as a table, with url = … or with [{section}.NAME] tables")
    fields = Entry.__struct_fields__
    own = {key: value for key, value in content.items() if key in fields}
    named = {key: value for key, value in content.items() if key not in fields}
    for key, value in named.items():
        if not isinstance(value, dict):
            raise InvalidURL(unknown(f"[{section}] in {path} has no key", key, fields))
        if not _NAME.fullmatch(key):
            raise InvalidURL(f"{path}: {key!r:.80} is no name for a {_WHAT[section]}: use letters, digits, '-' and '_'")
    if own and DEFAULT in named:
        raise InvalidURL(f"{path} has both [{section}] with {', '.join(own)} and [{section}.{DEFAULT}]: keep one")
    variables: dict[str, str] = {}
    for name in named:
        if (other := variables.setdefault(variable_of(section, name), name)) != name:
            raise InvalidURL(
                f"{path}: {other!r} and {name!r} have one variable, {variable_of(section, name)}: rename one"
            )
    return ({DEFAULT: own} if own else {}) | named


def _entry(where: str, name: str, fields: object) -> Entry:
    assert isinstance(fields, dict)  # noqa: S101  the caller looked
    for key in fields:
        if key not in Entry.__struct_fields__:
            raise InvalidURL(unknown(f"{where} has no key", key, Entry.__struct_fields__))
    for option, value in fields["options"].items() if isinstance(fields.get("options"), dict) else ():
        if not isinstance(value, str | int | float):
            raise InvalidURL(f"{where}: the option {option} is text, a number or a flag, not {type(value).__name__}")
    try:
        entry = msgspec.convert(fields, Entry)
    except msgspec.ValidationError as error:
        raise InvalidURL(f"{where}: {error}") from None
    if not entry.url and name != DEFAULT:
        raise InvalidURL(f"{where} has no url")
    return entry
