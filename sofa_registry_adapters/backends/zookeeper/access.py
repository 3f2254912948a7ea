"""What a connection needs besides an address, had anew for each one: certificates and credentials."""

from __future__ import annotations

import errno
import ssl
from importlib.util import find_spec
from pathlib import Path

from sofa_registry_adapters.backends.zookeeper import TLS_SCHEMES
from sofa_registry_adapters.errors import InvalidURL, MissingDependency
from sofa_registry_adapters.spi.options import TLS_FILES, Login, Target


class Access:
    """Knows how to be let in. Nothing is kept: files may be replaced under a running process."""

    def __init__(self, target: Target) -> None:
        self._secure = target.scheme in TLS_SCHEMES
        self._files = {name: file for name in TLS_FILES if (file := target.text(name))}
        self._target = target

    def check_files(self) -> None:
        """Raise `InvalidURL` if a file that the options name is not there, or is not what it should be.

        And `MissingDependency` for SASL, if what speaks it is not installed.
        """
        password_file = self._target.text("password_file")
        for name, file in {"password_file": password_file, **self._files}.items():
            if file and not Path(file).is_file():
                raise InvalidURL(f"the option {name} names {file!r}, which is not a file")
        try:
            self.context()
        except OSError as error:
            raise InvalidURL(error.strerror) from None
        if self.sasl and find_spec("puresasl") is None:
            raise MissingDependency(
                "zookeeper://…?sasl=… needs pure-sasl, which is not installed: "
                "pip install 'sofa-registry-adapters[zookeeper-sasl]'"
            )

    def context(self) -> ssl.SSLContext | None:
        """TLS that verifies the server's certificate and its name; None without TLS. Raises OSError."""
        if not self._secure:
            return None
        try:
            context = ssl.create_default_context(cafile=self._files.get("ca"))
            if certificate := self._files.get("cert"):
                context.load_cert_chain(certificate, self._files.get("key"), password=_no_password)
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
            named = " and ".join(f"{name}={file!r}" for name, file in self._files.items())
            raise OSError(errno.EINVAL, f"what the options {named} name cannot be used for TLS: {reason}") from None
        return context

    def credentials(self) -> list[tuple[str, str]]:
        """What to say after a connection is made: scheme and text. May block; raises `Unavailable`."""
        if self.sasl:
            return []
        login = self._target.login()
        return [("digest", f"{login.username}:{login.password}")] if login.username else []

    @property
    def sasl(self) -> str:
        """The mechanism of SASL by which to log in; empty without."""
        return self._target.text("sasl").upper()

    def account(self) -> Login:
        """The account for SASL. May block; raises `Unavailable`."""
        return self._target.login()


def _no_password() -> str:
    raise ValueError("the private key has a password: give one without")
