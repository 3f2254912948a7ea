"""The first step: the URL, its options, the client library. No I/O but for files of settings."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

from sofa_registry_adapters.cli.doctor.findings import Finding, Stop
from sofa_registry_adapters.engine.plugins import DISTRIBUTION, Plugins, factory
from sofa_registry_adapters.errors import (
    MissingDependency,
    PluginError,
    RegistryError,
    UnknownOption,
    UnknownScheme,
)
from sofa_registry_adapters.named import Settings, find_settings
from sofa_registry_adapters.references import literal_password
from sofa_registry_adapters.settings import Filled, parse_target, scheme_of
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.options import BackendType, Target


class Setting(NamedTuple):
    """Where the registry is, and what drives it. ``make`` makes a store from a target and a clock."""

    target: Target
    backend: BackendType
    layout: ServiceLayout
    make: object
    origin: str
    warnings: Sequence[Finding] = ()

    @property
    def plain_scheme(self) -> str:
        """The scheme that does not speak TLS."""
        return next((one for one in self.backend.schemes if one not in self.backend.tls), self.target.scheme)

    @property
    def tls(self) -> bool:
        """Whether the connection is to be encrypted."""
        return self.target.scheme in self.backend.tls


_CODES = ((UnknownScheme, "unknown-scheme"), (UnknownOption, "unknown-option"), (PluginError, "plug-in"))


def read_setting(url: str | None) -> Setting:
    """What a Registry would use. Raises `Stop`."""
    try:
        settings = find_settings(url)
    except RegistryError as error:
        # It says itself where.
        raise _stop("wrong-url", str(error), "") from None
    try:
        return _checked(settings)
    except MissingDependency as error:
        what, _, command = str(error).partition(": pip ")
        raise _stop("missing-library", what, f"Install it: pip {command}") from None
    except RegistryError as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "wrong-url")
        raise _stop(code, str(error), f"Correct it where it was given: {settings.origin}.") from None


def _checked(settings: Settings) -> Setting:
    plugins = Plugins(settings.plugins)
    backend = plugins.backend(scheme_of(settings.url))
    target = parse_target(settings.url, backend, settings.options)
    layout = plugins.layout(target.text("layout"))()
    try:
        make = factory(backend)
    except MissingDependency:
        raise
    except ImportError as error:
        command = f"pip install --upgrade '{DISTRIBUTION}[{backend.extra}]'" if backend.extra else "pip check"
        what = f"the client library of {target.scheme}:// cannot be imported: {error}"
        raise _stop("broken-library", what, f"Install it anew: {command}") from None
    return Setting(target, backend, layout, make, settings.origin, _exposed(settings, backend))


def _exposed(settings: Settings, backend: BackendType) -> list[Finding]:
    """A warning where everybody on the machine may read a file with a secret in it."""
    path = settings.path
    if path is None or not path.stat().st_mode & stat.S_IROTH:
        return []
    url = settings.url.template if isinstance(settings.url, Filled) else settings.url
    query = [(name, value) for name, value in parse_qsl(url.partition("?")[2]) if "${" not in value]
    given = {name for name, value in (*query, *settings.options.items()) if not isinstance(value, Filled)}
    secrets = [one.name for one in backend.options if one.kind == "secret" and one.name in given]
    if literal_password(settings.url):
        secrets.append("a password")
    if not secrets:
        return []
    what = f"{settings.origin} has {' and '.join(secrets)} in it, and everybody on this machine may read the file"
    advice = f"Run chmod 600 {path}, or write a reference instead: ${{NAME}} or ${{file:/path}}."
    return [Finding(severity="warning", step="settings", code="readable-secret", what=what, advice=advice)]


def _stop(code: str, what: str, advice: str) -> Stop:
    return Stop(Finding(severity="error", step="settings", code=code, what=what, advice=advice))
