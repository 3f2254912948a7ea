"""The files that options name, looked at before anybody connects: a wrong one is no matter of patience."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterable
from pathlib import Path

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import TLS_FILES, Target


def check_files(target: Target, more: Iterable[str] = ()) -> None:
    """Raise `InvalidURL` if a file that one of `tls_options`, or of the options ``more``, names is not there, or is not what it should be.

    A private key must not have a password: whoever reads it would be asked for that on the terminal.
    """
    files = {name: file for name in (*TLS_FILES, *more) if (file := target.text(name))}
    for name, file in files.items():
        if not Path(file).is_file():
            raise InvalidURL(f"the option {name} names {file!r}, which is not a file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    name = "ca"
    try:
        if "ca" in files:
            context.load_verify_locations(files["ca"])
        name = "cert"
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"), password=_no_password)
    except OSError as error:
        # Of TLS, or of reading.
        reason = getattr(error, "reason", None) or error.strerror or error
        raise InvalidURL(f"the option {name} names {files[name]!r}: {reason}") from None


def _no_password() -> str:
    raise OSError(errno.EINVAL, "the private key has a password: give one without")
