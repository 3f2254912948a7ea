"""Where a registry is: the grammar of URLs, and the options all backends share.

::

    scheme://[user[:password]@]host[:port][,host[:port]…][/path][?option=value&…]

User, password and path are percent-decoded. An option with two values in the URL, or one in the URL and
another beside it, is an error; ``options=`` wins over the file's options. Nothing here does network I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import msgspec

from sofa_registry_adapters.errors import InvalidURL, Unavailable, UnknownOption
from sofa_registry_adapters.model.instance import check_host
from sofa_registry_adapters.spi.options import TLS_FILES, Address, BackendType, Credentials, Option, Target, Value

SHARED_OPTIONS = (
    Option(
        name="namespace",
        kind="text",
        default="",
        meaning="keeps this Registry apart from those with another namespace",
    ),
    Option(name="layout", kind="text", default="native", meaning="how services are written into the store"),
    Option(
        name="call_timeout",
        kind="seconds",
        default=5.0,
        least=0.05,
        most=600,
        meaning="one exchange with the product; a batch counts as one",
    ),
    Option(
        name="protection_hold",
        kind="seconds",
        default=10.0,
        least=0,
        most=86400,
        meaning="how long vanished instances are kept when too many vanish at once; 0 is off",
    ),
    Option(
        name="reconcile",
        kind="seconds",
        default=30.0,
        least=0.1,
        most=86400,
        meaning="between two cheap comparisons of a watched service with the registry",
    ),
    Option(
        name="full_read",
        kind="seconds",
        default=600.0,
        least=0.1,
        most=86400,
        meaning="between two full reads of a watched service",
    ),
    Option(
        name="poll",
        kind="seconds",
        default=1.0,
        least=0.05,
        most=3600,
        meaning="between two reads, where the product cannot push",
    ),
    Option(
        name="leaving",
        kind="seconds",
        default=0.2,
        least=0,
        most=60,
        meaning="how long a withdrawn instance stays marked before it is deleted; where the product cannot push, at least as "
        "long as a poll and a tenth, unless it is 0",
    ),
    Option(
        name="snapshot",
        kind="path",
        default="",
        meaning="folder of the disk snapshots, or 'off'; empty: the user's cache folder",
    ),
    Option(
        name="allow_loopback",
        kind="flag",
        default=False,
        meaning="publish loopback and wildcard addresses to a registry on another host",
    ),
)
"""Options of every backend; a backend may change a default."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"k": 1024, "m": 1024 * 1024}
_YES = frozenset(("1", "true", "yes", "on"))
_NO = frozenset(("0", "false", "no", "off"))


class Filled(str):
    """Text whose references (`sofa_registry_adapters.references`) are filled in. It is the whole text; its ``repr`` shows the references."""

    __slots__ = ("again", "template")
    template: str
    again: Callable[[], str] | None

    def __new__(cls, text: str, template: str = "***", again: Callable[[], str] | None = None) -> Self:
        """``again`` fills the same references in anew."""
        made = super().__new__(cls, text)
        made.template = template
        made.again = again
        return made

    def __repr__(self) -> str:
        return repr(self.template)


def scheme_of(url: str) -> str:
    """The scheme of a URL, in lower case. Raises `InvalidURL`."""
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise InvalidURL(
            f"{redacted(url)!r} is not a registry URL: write scheme://…, for example redis://127.0.0.1:6379"
        )
    return scheme.lower()


def redacted(url: str) -> str:
    """The URL without what may be secret: all before the last ``@``, and the query's values.

    A password with an unencoded ``/`` or ``?`` makes a URL that cannot be read; it is hidden all the same. Of a URL with
    references the references are shown.
    """
    if isinstance(url, Filled):
        url = url.template
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    credentials, at, hosts = rest.rpartition("@")
    head, separator, query = hosts.partition("?")
    shown = "&".join(f"{piece.partition('=')[0]}=***" for piece in query.split("&")) if separator else ""
    user = "***" if credentials else ""
    return f"{scheme}{mark}{user}{at}{head}{separator}{shown}"


def parse_target(
    url: str,
    backend: BackendType,
    options: Mapping[str, Value] | None = None,
    credentials: Credentials | None = None,
) -> Target:
    """The URL and further options, checked against the backend's tables. Raises `InvalidURL`.

    ``credentials`` takes the place of user and password; references in these are filled in anew for each login.
    """
    from urllib.parse import unquote

    scheme = scheme_of(url)
    head, _, query = url.partition("://")[2].partition("?")
    authority, slash, path = head.partition("/")
    if backend.needs_host and "@" in path and "@" not in authority:
        raise InvalidURL(
            f"{redacted(url)!r} has an '@' behind a '/': in a user name or a password write '/' as %2F, '?' as %3F, "
            "'@' as %40 and ':' as %3A"
        )
    userinfo, at, hosts = authority.rpartition("@")
    username, _, password = userinfo.partition(":")
    if credentials is not None and password:
        raise InvalidURL(f"{redacted(url)!r} has a password, and credentials= gives one: keep one")
    if not backend.needs_host and authority:
        if not backend.bare_path:
            raise InvalidURL(
                f"{redacted(url)!r} names a host, and this backend has none: write a path with three slashes, {scheme}:///path, "
                f"as in {backend.grammar}"
            )
        path, slash, hosts = f"{hosts}{slash}{path}", "", ""
    target = Target(
        scheme=scheme,
        addresses=_addresses(hosts, backend, url),
        path=f"{slash}{unquote(path)}",
        username=unquote(username) if at else "",
        password=unquote(password) if at else "",
        options=_options(_pairs(query, url), options or {}, backend),
        credentials=credentials or _referred(url),
    )
    _check_tls(target, backend)
    if backend.check is not None:
        backend.check(target)
    return target


def _check_tls(target: Target, backend: BackendType) -> None:
    given = [name for name in TLS_FILES if target.text(name)]
    if given and backend.tls and target.scheme not in backend.tls:
        plain = [scheme for scheme in backend.schemes if scheme not in backend.tls]
        encrypted = dict(zip(plain, backend.tls, strict=False)).get(target.scheme, backend.tls[0])
        raise InvalidURL(f"the option {given[0]} is for TLS: write {encrypted}:// instead of {target.scheme}://")
    if backend.tls and target.text("key") and not target.text("cert"):
        raise InvalidURL("the option key has the private key of a certificate: name that with the option cert")


def _referred(url: str) -> Credentials | None:
    """User and password of a URL that has references in them, read anew each time."""
    from urllib.parse import unquote

    if (
        not isinstance(url, Filled)
        or url.again is None
        or "${" not in url.template.partition("?")[0].rpartition("@")[0]
    ):
        return None
    again = url.again

    def read() -> tuple[str, str]:
        try:
            userinfo = again().partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[0]
        except InvalidURL as error:
            # It was there when the URL was read: it is being replaced.
            raise Unavailable(str(error)) from None
        username, _, password = userinfo.partition(":")
        return unquote(username), unquote(password)

    return read


def _addresses(hosts: str, backend: BackendType, url: str) -> tuple[Address, ...]:
    if not backend.needs_host:
        return ()
    if not hosts:
        raise InvalidURL(f"{redacted(url)!r} names no host: the form is {backend.grammar}")
    return tuple(_address(host, backend.default_port, url) for host in hosts.split(","))


def _address(text: str, default_port: int, url: str) -> Address:
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise InvalidURL(f"{_where(text, url)} has no ']' behind its IPv6 address: write '[host]:port'")
        port = (rest.removeprefix(":") if rest.startswith(":") else rest) or ("?" if rest else "")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        port = port or "?"
    elif ":" in text:
        raise InvalidURL(f"{_where(text, url)} is IPv6 without brackets: write '[host]:port'")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise InvalidURL(f"the port of {_where(text, url)} is not a number from 1 to 65535")
    try:
        return Address(check_host(host), int(port) if port else default_port)
    except ValueError:
        raise InvalidURL(f"{_where(text, url)} is neither a host name nor an IP address") from None


def _where(text: str, url: str) -> str:
    # With an '@' somewhere, or a reference, the text may be a password in the wrong place.
    return (
        f"a host in {redacted(url)!r}"
        if "@" in url or isinstance(url, Filled)
        else f"the host {text!r} in {redacted(url)!r}"
    )


def table_of(backend: BackendType) -> dict[str, Option]:
    """Every option of a backend by name, the shared ones with the backend's own defaults."""
    shared = (
        msgspec.structs.replace(option, default=backend.defaults[option.name])
        if option.name in backend.defaults
        else option
        for option in SHARED_OPTIONS
    )
    return {option.name: option for option in (*backend.options, *shared)}


def _pairs(query: str, url: str) -> list[tuple[str, str]]:
    """The options of a URL; those with references in them show these only."""
    from urllib.parse import parse_qsl

    pairs = parse_qsl(query, keep_blank_values=True)
    if not isinstance(url, Filled):
        return pairs
    shown = dict(parse_qsl(url.template.partition("?")[2], keep_blank_values=True))
    return [
        (name, value if shown.get(name) == value else Filled(value, shown.get(name, "***"))) for name, value in pairs
    ]


def _options(pairs: Sequence[tuple[str, str]], more: Mapping[str, Value], backend: BackendType) -> dict[str, Value]:
    table = table_of(backend)
    values: dict[str, Value] = {name: option.default for name, option in table.items()}
    given: dict[str, Value] = {}
    filled: set[str] = set()
    for name, value in (*pairs, *more.items()):
        option = table.get(name)
        if option is None:
            raise UnknownOption(unknown(f"{backend.schemes[0]}:// has no option", name, table))
        read = read_value(option, value)
        if name in given and given[name] != read:
            hidden = option.kind == "secret" or name in filled or isinstance(value, Filled)
            shown = "two values" if hidden else f"{given[name]!r} and {read!r}"
            raise InvalidURL(f"the option {name} is given twice, as {shown}: keep one")
        given[name] = read
        if isinstance(value, Filled):
            filled.add(name)
    return values | given


def unknown(what: str, name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """A sentence about an unknown name, with the nearest known one and the whole list."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else "."
    return f"{what} {name!r}{hint} {'Known are ' + ', '.join(sorted(known)) if known else 'There is none'}"


def read_value(option: Option, value: Value) -> Value:
    """A value of an option from text, or as given. Raises `InvalidURL`."""
    try:
        read = _READERS[option.kind](value)
    except (ValueError, TypeError):
        shown = "this value" if option.kind == "secret" else repr(value)
        raise InvalidURL(f"the option {option.name} is {option.kind}, and {shown} is not") from None
    if option.choices and read not in option.choices:
        known = ", ".join(one or "empty" for one in option.choices)
        raise InvalidURL(f"the option {option.name} is one of {known}, not {value!r}")
    if isinstance(read, int | float) and not isinstance(read, bool):
        low, high = option.least, option.most
        if low is not None and read < low:
            raise InvalidURL(f"the option {option.name} is {value!r}, and must be at least {low:g}")
        if high is not None and read > high:
            raise InvalidURL(f"the option {option.name} is {value!r}, and must be at most {high:g}")
    return read


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _whole(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(value)
    return int(value)


def _seconds(value: Value) -> float:
    if isinstance(value, bool) or value is None:
        raise TypeError(value)
    number: float | str = value
    factor = 1.0
    if isinstance(number, str):
        for unit, seconds in _UNITS.items():
            if number.endswith(unit):
                number, factor = number.removesuffix(unit), seconds
                break
    read = float(number) * factor
    if read != read or read in (float("inf"), float("-inf")):  # noqa: PLR0124  NaN is not itself
        raise ValueError(value)
    return read


def _bytes(value: Value) -> int:
    if isinstance(value, str) and value[-1:].lower() in _SIZES:
        return int(value[:-1]) * _SIZES[value[-1].lower()]
    return _whole(value)


def _flag(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in _YES | _NO:
        raise ValueError(value)
    return text in _YES


_READERS: Mapping[str, Callable[[Value], Value]] = {
    "text": _text,
    "secret": _text,
    "path": _text,
    "whole": _whole,
    "seconds": _seconds,
    "bytes": _bytes,
    "flag": _flag,
}
