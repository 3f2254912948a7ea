"""Options are declared in tables: they feed validation, the reference pages and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from sofa_registry_adapters.errors import RegistryError, Unavailable

Credentials = Callable[[], tuple[str, str]]
"""Gives user and password as they are now; may block, and is called for each connection or login, on a thread of ours."""

Kind = Literal["text", "whole", "seconds", "bytes", "flag", "path", "secret"]
Value = str | int | float | bool | None


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a backend.

    ``kind`` decides how text is read: ``whole`` is a whole number, ``seconds`` a number with an
    optional unit (``250ms``, ``5s``, ``2m``, ``1h``), ``bytes`` a number with an optional ``k`` or ``M``, ``flag`` a
    yes/no, ``path`` a file name, ``secret`` text that is never shown. ``least`` and ``most`` bound a
    number; ``choices`` lists the texts that are allowed.
    """

    name: str
    kind: Kind
    default: Value
    meaning: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


class Address(msgspec.Struct, frozen=True):
    """One server of a URL. ``port`` is 0 where the URL names none."""

    host: str
    port: int = 0


class Login(msgspec.Struct, frozen=True):
    """A user and a password. ``repr()`` shows neither."""

    username: str = ""
    password: str = ""

    def __bool__(self) -> bool:
        return bool(self.username or self.password)

    def __repr__(self) -> str:
        return "<Login ***>"


TLS_FILES = ("ca", "cert", "key")
"""The options that name files for TLS."""


def tls_options(otherwise: str = "the system's") -> tuple[Option, ...]:
    """The options ca, cert and key of a backend that speaks TLS; without ca, certificates are signed by those called ``otherwise``."""
    return (
        Option(
            name="ca",
            kind="path",
            default="",
            meaning=f"file with the certificates that sign the server's; empty: {otherwise}",
        ),
        Option(name="cert", kind="path", default="", meaning="file with the client's certificate"),
        Option(name="key", kind="path", default="", meaning="file with the private key of cert; empty: it is in cert"),
    )


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed and checked registry URL. ``str()`` and ``repr()`` show no secret.

    ``username`` and ``password`` are what the URL said when it was read. Whoever connects asks `login`, which may say something
    newer: ``credentials`` is where that comes from, where it can change.
    """

    scheme: str
    addresses: tuple[Address, ...] = ()
    path: str = ""
    username: str = ""
    password: str = ""
    options: Mapping[str, Value] = {}
    credentials: Credentials | None = None

    @property
    def identified(self) -> bool:
        """Whether there is somebody to log in."""
        return bool(self.username or self.password or self.credentials or self.text("password_file"))

    @property
    def changeable(self) -> bool:
        """Whether `login` may say another thing next time, and may block."""
        return bool(self.credentials or self.text("password_file"))

    def login(self) -> Login:
        """User and password as they are now. Blocks where they are `changeable`. Raises `Unavailable`."""
        if self.credentials is not None:
            return _given(self.credentials)
        if file := self.text("password_file"):
            try:
                return Login(self.username, Path(file).read_text(encoding="utf-8").strip())
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise Unavailable(f"the option password_file names {file!r}, which cannot be read: {reason}") from None
        return Login(self.username, self.password)

    def __str__(self) -> str:
        hosts = ",".join(_shown(address) for address in self.addresses)
        user = f"{self.username}:***@" if self.username or self.password else ""
        return f"{self.scheme}://{user}{hosts}{self.path}"

    def __repr__(self) -> str:
        return f"<Target {self}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("url", str(self))]

    def text(self, name: str) -> str:
        """The option as text; empty where it is not set."""
        value = self.options.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float:
        """The option as a number: seconds, bytes or a count."""
        value = self.options[name]
        if value is None or isinstance(value, str):
            raise TypeError(f"the option {name} is not a number")
        return float(value)

    def flag(self, name: str) -> bool:
        """The option as yes or no."""
        return bool(self.options.get(name))


def _given(credentials: Credentials) -> Login:
    try:
        return Login(*msgspec.convert(credentials(), tuple[str, str]))
    except RegistryError:
        raise
    except Exception as error:  # noqa: BLE001  what is said there may be a secret
        raise Unavailable(
            f"the credentials cannot be had: what gives them raised {type(error).__name__}; it returns user and password"
        ) from None


def _shown(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}" if address.port else host


class BackendType(msgspec.Struct, frozen=True, kw_only=True):
    """How a backend presents itself before its client library is imported.

    ``load`` returns a function that makes the backend for a target: a `RegistryBackend`, or a `RecordStore` when
    ``store`` is true; only ``load`` may import the client library. ``load_config`` does the same for a `ConfigBackend`; a store
    needs none, the engine makes one of it. ``defaults`` overrides the
    defaults of options that all backends share. ``grammar`` is the URL's form, ``considerations`` the
    product's limits in plain words, ``extra`` the name of the installation extra. ``tls`` has the schemes that speak TLS, in the
    order of those that do not; the options of `tls_options` name files for it, and are refused without it. ``tuned`` says what the product can do at a target
    whose options tell how its servers are set up; without it that is ``capabilities``, as with the options at their defaults.
    With ``needs_host=False`` the URL has a path only, ``scheme:///path``, and a host in it is refused; with ``bare_path`` as
    well all behind ``//`` is the path, which may then be relative, or a name.
    """

    schemes: tuple[str, ...]
    summary: str
    grammar: str
    considerations: str
    capabilities: Capabilities
    load: Callable[[], Callable[..., object]]
    store: bool = True
    load_config: Callable[[], Callable[..., object]] | None = None
    options: tuple[Option, ...] = ()
    defaults: Mapping[str, Value] = {}
    extra: str = ""
    libraries: tuple[str, ...] = ()
    default_port: int = 0
    needs_host: bool = True
    bare_path: bool = False
    check: Callable[[Target], None] | None = None
    tls: tuple[str, ...] = ()
    tuned: Callable[[Target], Capabilities] | None = None

    def capabilities_at(self, target: Target) -> Capabilities:
        """What the product can do there."""
        return self.capabilities if self.tuned is None else self.tuned(target)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a product can do, declared; the engine, the documentation and the contract suite read it.

    ``push``: a watch is told of changes (otherwise the engine polls). ``lease``: records of a dead process vanish.
    ``liveness``: ``session``, ``lease``, ``bucket`` (one life-time for a whole bucket) or ``none``.
    ``compare_and_set``: a newer publisher can take an id over, and a configuration can be written on condition: a write can demand the
    version it replaces, or readers see all of an id's publishers. ``list_services``: `services` works.
    ``announces_withdrawal``: a leaving instance can be marked before it is deleted. ``persistent``: data outlives a
    restart of the product. ``shared``: other processes see it. ``detects_loss_within``: seconds until a record deleted
    behind its owner's back is noticed. ``notices_death_within``: seconds after a killed publisher's
    lease by which its records are gone; with ``notices_death_at_once`` no lease is waited for. ``notices_silence_within``: seconds by which those of a publisher are
    gone that hangs, or is cut off (0: as long as a killed one's that has to wait for its lease). ``visible_within``: seconds after a
    write was confirmed until every read and every watch shows it (0: reads at once).
    ``max_value_bytes``: the largest record. ``survives_fork``: a child may open its own. ``max_config_bytes``: the largest
    configuration value (0: as ``max_value_bytes``). ``binary_config``: such a value may be bytes that are no text.
    ``blank_config``: it may be empty, or only white space.
    """

    push: bool = True
    lease: bool = True
    liveness: Literal["session", "lease", "bucket", "none"] = "lease"
    compare_and_set: bool = True
    list_services: bool = True
    announces_withdrawal: bool = True
    persistent: bool = False
    shared: bool = True
    notices_death_at_once: bool = False
    detects_loss_within: float = 2.0
    notices_death_within: float = 2.0
    notices_silence_within: float = 0.0
    visible_within: float = 0.0
    max_value_bytes: int = 1_000_000
    survives_fork: bool = True
    max_config_bytes: int = 0
    binary_config: bool = True
    blank_config: bool = True
