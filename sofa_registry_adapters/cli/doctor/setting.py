"""The first step: the URL, its options, the client library. No I/O but for files of settings."""

from __future__ import annotations

from typing import NamedTuple

from sofa_registry_adapters.cli.doctor.findings import Finding, Stop
from sofa_registry_adapters.engine.plugins import DISTRIBUTION, Plugins, factory
from sofa_registry_adapters.errors import (
    MissingDependency,
    PluginError,
    RegistryError,
    UnknownOption,
    UnknownScheme,
)
from sofa_registry_adapters.settings import Settings, find_settings, parse_target, scheme_of
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.options import BackendType, Target


class Setting(NamedTuple):
    """Where the registry is, and what drives it. ``make`` makes a store from a target and a clock."""

    target: Target
    backend: BackendType
    layout: ServiceLayout
    make: object
    origin: str

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
    origin = "the argument"
    try:
        settings = find_settings(url)
        origin = settings.origin
        return _checked(settings)
    except MissingDependency as error:
        what, _, command = str(error).partition(": pip ")
        raise _stop("missing-library", what, f"Install it: pip {command}") from None
    except RegistryError as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "wrong-url")
        raise _stop(code, str(error), f"Correct it where it was given: {origin}.") from None


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
    return Setting(target, backend, layout, make, settings.origin)


def _stop(code: str, what: str, advice: str) -> Stop:
    return Stop(Finding(severity="error", step="settings", code=code, what=what, advice=advice))
