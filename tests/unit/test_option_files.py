"""Files that options name and that are not what they should be: said at once, and nobody is asked for a password."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.testing.faults.authority import Authority

SCHEMES = pytest.mark.parametrize("scheme", ("etcds", "nacoss", "rediss", "rediss+cluster"))


def refusal(scheme: str, **files: object) -> str:
    """Nobody listens there, and that is not what is said."""
    begun = time.monotonic()
    options = {"snapshot": "off", **{name: str(file) for name, file in files.items()}}
    with Registry(f"{scheme}://ann@127.0.0.1:1", options=options) as registry, pytest.raises(InvalidURL) as caught:
        registry.lookup("a", timeout=30)
    assert time.monotonic() - begun < 10
    return str(caught.value)


@SCHEMES
def test_no_certificate(scheme: str, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no certificate")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert refusal(scheme, ca=tmp_path / "none") == f"the option ca names '{tmp_path}/none', which is not a file"
    assert refusal(scheme, cert=folder) == f"the option cert names '{folder}', which is not a file"
    assert refusal(scheme, ca=text).startswith(f"the option ca names '{text}': ")
    assert refusal(scheme, cert=text).startswith(f"the option cert names '{text}': ")


@SCHEMES
def test_a_key_with_a_password(scheme: str, tmp_path: Path) -> None:
    pair = Authority(tmp_path / "own").issue("client")
    locked = tmp_path / "locked.pem"
    subprocess.run(
        [
            str(shutil.which("openssl")),
            "pkey",
            "-in",
            str(pair.key),
            "-aes256",
            "-passout",
            "pass:x",
            "-out",
            str(locked),
        ],
        check=True,
        capture_output=True,
    )
    said = refusal(scheme, cert=pair.cert, key=locked)
    assert said == f"the option cert names '{pair.cert}': the private key has a password: give one without"


@SCHEMES
def test_a_key_of_another(scheme: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "own")
    one, other = authority.issue("one"), authority.issue("other")
    assert "KEY_VALUES_MISMATCH" in refusal(scheme, cert=one.cert, key=other.key)
