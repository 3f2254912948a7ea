"""Throw-away certificates for tests: an authority, and what it signs. Needs the program ``openssl``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SIGNS = "-addext keyUsage=critical,keyCertSign,cRLSign"
"""Python 3.13 believes no authority that does not say so."""
KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


class Pair(NamedTuple):
    """A certificate and its private key, files in PEM format."""

    cert: Path
    key: Path


class Authority:
    """An authority of its own in a directory; ``ca`` is the certificate that others have to trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ca: Path = directory / "ca.pem"
        self._key = directory / "ca.key"
        run(f"req -x509 {KEY} {SIGNS} -days 2 -subj /CN=authority -keyout", self._key, "-out", self.ca)

    @staticmethod
    def possible() -> bool:
        """Whether the program is there."""
        return shutil.which("openssl") is not None

    def issue(self, name: str, *hosts: str, expired: bool = False) -> Pair:
        """A certificate for ``CN=name``, good for hosts such as ``DNS:localhost`` and ``IP:127.0.0.1``; anew each time."""
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(hosts)}\n" if hosts else "basicConstraints=CA:FALSE\n")
        run(f"req -new {KEY} -subj /CN={name} -keyout", pair.key, "-out", request)
        signing = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions)
        # A day that is over already: one that ends at the moment it begins.
        run(f"x509 -req -days {0 if expired else 2} -in", request, *signing, "-out", pair.cert)
        return pair


def run(words: str, *more: str | Path) -> None:
    """Run openssl. Raises `RuntimeError` with what it says."""
    command: Sequence[str | Path] = ("openssl", *words.split(), *more)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {words}: {done.stderr.strip()}")
