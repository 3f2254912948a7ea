"""What the kit has to know of a product, and how servers written in Java are found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Prepare = Callable[[Path, int, bool], Sequence[str]]
"""Directory, port, persistent: writes the configuration and returns the command line."""

QUICK_START_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true")
"""For a Java server that lives for a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image: its name, the port inside, its command (None: its own) if persistent or not."""

    name: str
    port: int
    command: Callable[[bool], Sequence[str] | None]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What `find_service` has to know of a product.

    `probe` returns nothing when the server answers its own protocol, or else a text that says what it does
    instead; `local` returns how to run it here, or a text that says what is missing. `scheme` is that of its URLs,
    `user` what stands in them before the host (``name:password``). `offsets` are the distances of all the ports that
    clients use from the main one, `inner_offsets` those of further ports that it takes. It answers within
    `start_seconds` of its start. `stumbles` is what the log of a server says that ended while it started on a busy
    machine, and starts when it is asked again; nothing if there is no such thing.
    """

    name: str
    scheme: str
    port: int
    package: str
    image: Image
    probe: Callable[[str, int, float], str]
    local: Callable[[], Prepare | str]
    user: str = field(default="", repr=False)
    offsets: Sequence[int] = (0,)
    inner_offsets: Sequence[int] = ()
    start_seconds: float = 30.0
    stumbles: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that names a server of this product."""
        return f"SOFA_TEST_{self.name.upper()}_URL"

    @property
    def image_name(self) -> str:
        """The container image to use: ``SOFA_TEST_…_IMAGE`` names another one than usual."""
        return os.environ.get(f"SOFA_TEST_{self.name.upper()}_IMAGE") or self.image.name

    @property
    def remedy(self) -> str:
        """How to get one, in words to be shown to the user."""
        return (
            f"apt-get install {self.package} (Debian, Ubuntu), or docker pull {self.image_name}, "
            f"or {self.variable}={self.scheme}://HOST:{self.port}"
        )


def java_program(name: str) -> str | None:
    """The path of ``java``, ``javac``, …: that of JAVA_HOME, or else the one on the PATH."""
    home = os.environ.get("JAVA_HOME")
    inside = Path(home, "bin", name) if home else None
    return str(inside) if inside and inside.exists() else shutil.which(name)
