"""Images of the servers for `tests/containers/run`: pulled where that works, or else made from the programs of this machine.

`python tests/containers/images.py [NAME…]`: the names are those of the test kit's products, all without one. An image that is
there is kept. What is made is as small as can be: a program, the libraries that it loads, and no shell.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker

from sofa_registry_adapters.testing.services import PRODUCTS, Product
from sofa_registry_adapters.testing.services.etcd.program import CURRENT
from sofa_registry_adapters.testing.services.etcd.program import program as built
from sofa_registry_adapters.testing.services.nacos import server
from sofa_registry_adapters.testing.services.nacos.jars import LINES, MAIN, FetchFailed, class_path
from sofa_registry_adapters.testing.services.product import QUICK_START_FLAGS, java_program

PULL_SECONDS = 120
JAVA = "/opt/java"
JARS = Path("/usr/share/java")
NATIVE = ("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")
"""What native code in jars loads, which nothing here can ask for its libraries."""
WITHOUT = re.compile(
    r"(jmods|man|legal|include|demo|sample)/|lib/(src\.zip|ct\.sym|libawt_xawt|libsplashscreen|libjawt)"
)
"""Parts of a Java runtime that a server has no use for."""

ZOOKEEPER = """\
tickTime=500
initLimit=10
syncLimit=5
minSessionTimeout=1000
maxClientCnxns=0
dataDir=/data
clientPort=2181
admin.enableServer=false
4lw.commands.whitelist=*
"""


class Missing(Exception):
    """Something that an image is made from is not on this machine; the text says what."""


class Root:
    """The file system of an image, which becomes a tar archive; each file is added once."""

    def __init__(self, archive: Path) -> None:
        self._tar = tarfile.open(archive, "w")  # noqa: SIM115  close() does
        self._names: set[str] = set()
        self.text("/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\n")
        self.text("/etc/group", "root:x:0:\n")
        for folder in ("/tmp", "/data", "/root"):
            self._entry(folder, tarfile.DIRTYPE, mode=0o1777)

    def close(self) -> None:
        self._tar.close()

    def text(self, name: str, text: str) -> None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            self.file(Path(file.name), name, mode=0o644)

    def file(self, path: Path, name: str = "", mode: int | None = None) -> None:
        """A file of this machine, links followed, under its own name or another one."""
        name = (name or str(path)).lstrip("/")
        if name in self._names or not path.is_file():
            return
        self._names.add(name)
        entry = self._tar.gettarinfo(path.resolve(), name)
        entry.type, entry.linkname = tarfile.REGTYPE, ""
        entry.size = path.stat().st_size
        entry.uid = entry.gid = 0
        entry.mode = entry.mode if mode is None else mode
        with path.open("rb") as content:
            self._tar.addfile(entry, content)

    def programs(self, paths: Iterable[Path]) -> None:
        """Programs with the libraries that they load, all under their own names."""
        paths = list(paths)
        for path in (*paths, *libraries_of(paths)):
            self.file(path)

    def _entry(self, name: str, kind: bytes, mode: int) -> None:
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.mode = kind, mode
        self._tar.addfile(entry)


def libraries_of(files: Iterable[Path]) -> set[Path]:
    """What the loader finds for these programs and libraries."""
    asked = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False).stdout
    return {Path(found) for found in re.findall(r"(?:=> |^\t)(/\S+) \(0x", asked, re.MULTILINE)}


def program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"no {name} on the PATH")
    return Path(found)


def add_java(root: Root) -> None:
    """The Java runtime of this machine, in `JAVA`."""
    java = java_program("java")
    if java is None:
        raise Missing("no java on the PATH or in JAVA_HOME")
    home = Path(java).resolve().parent.parent
    files = [path for path in home.rglob("*") if path.is_file() and not WITHOUT.match(str(path.relative_to(home)))]
    for path in files:
        root.file(path, f"{JAVA}/{path.relative_to(home)}")
    own = {path.resolve() for path in files}
    native = [path for path in files if path.suffix == ".so" or path == home / "bin" / "java"]
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    named = [
        Path(path) for name, path in re.findall(r"^\t(\S+) \([^)]*\) => (\S+)$", cache, re.MULTILINE) if name in NATIVE
    ]
    for path in (*libraries_of(native), *named):
        if path.resolve() not in own:
            root.file(path)


def redis(root: Root) -> Sequence[str]:
    root.programs([program("redis-server"), program("redis-cli")])
    return ()


def zookeeper(root: Root) -> Sequence[str]:
    home = os.environ.get("ZOOKEEPER_HOME")
    jars = sorted(Path(home, "lib").glob("*.jar")) if home else list(named_by(JARS / "zookeeper.jar", set()))
    if not jars:
        raise Missing(f"no ZooKeeper jars in ZOOKEEPER_HOME/lib or {JARS}")
    if not home:
        # No manifest names the one that writes the log.
        jars.append(JARS / "slf4j-simple.jar")
    add_java(root)
    for path in jars:
        root.file(path, f"/jars/{path.name}")
    root.text("/conf/zoo.cfg", ZOOKEEPER)
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return [f"{JAVA}/bin/java", *QUICK_START_FLAGS, "-cp", "/jars/*", main, "/conf/zoo.cfg"]


def named_by(jar: Path, seen: set[Path]) -> Iterator[Path]:
    """The jar, and those that manifests name, as far as they are there."""
    if jar in seen or not jar.is_file():
        return
    seen.add(jar)
    yield jar
    with zipfile.ZipFile(jar) as content, contextlib.suppress(KeyError):
        manifest = content.read("META-INF/MANIFEST.MF").decode().replace("\r\n", "\n").replace("\n ", "")
        for line in re.findall(r"^Class-Path: (.*)$", manifest, re.MULTILINE):
            for name in line.split():
                yield from named_by(Path(os.path.normpath(jar.parent / name)), seen)


def etcd(version: str) -> Callable[[Root], Sequence[str]]:
    def make(root: Root) -> Sequence[str]:
        path = built(version) if version else program("etcd")
        if not path.is_file():
            raise Missing(f"etcd {version} is not built")
        root.file(path, "/usr/bin/etcd")
        for library in libraries_of([path]):
            root.file(library)
        return ()

    return make


def nacos(line: int) -> Callable[[Root], Sequence[str]]:
    def make(root: Root) -> Sequence[str]:
        try:
            main, first, jars = class_path(LINES[line]).split(":")
        except FetchFailed as error:
            raise Missing(str(error)) from error
        add_java(root)
        for path in Path(jars).parent.glob("*.jar"):
            root.file(path, f"/home/nacos/jars/{path.name}")
        for path in Path(main).iterdir():
            root.file(path, f"/home/nacos/main/{path.name}")
        root.text("/home/nacos/conf/application.properties", nacos_settings())
        names = ["-Dnacos.home=/home/nacos", "-Dnacos.standalone=true", "-Dnacos.deployment.type=server"]
        places = f"/home/nacos/main:/home/nacos/jars/{Path(first).name}:/home/nacos/jars/*"
        own = ["--spring.config.additional-location=file:/home/nacos/conf/", *server._SPRING_OPTIONS[line]]
        flags = ["-Xms64m", "-Xmx512m", *QUICK_START_FLAGS, "-Djava.awt.headless=true"]
        return [f"{JAVA}/bin/java", *flags, *names, "-cp", places, MAIN, *own]

    return make


def nacos_settings() -> str:
    """As the official images have it: accounts and their secrets come from the container's variables."""
    usual = server._settings(accounts=False, milliseconds=500)
    # The first name is that of line 3, the second that of line 2.
    ports = {"nacos.server.main.port": "8848", "server.port": "8848"}
    of_variables = {
        "server.address": "0.0.0.0",
        "nacos.naming.push.pushTaskDelay": "${NACOS_PUSH_DELAY_MS:500}",
        **dict.fromkeys(
            ("nacos.core.auth.enabled", "nacos.core.auth.admin.enabled", "nacos.core.auth.console.enabled"),
            "${NACOS_AUTH_ENABLE:false}",
        ),
        "nacos.core.auth.server.identity.key": f"${{NACOS_AUTH_IDENTITY_KEY:{server._random()}}}",
        "nacos.core.auth.server.identity.value": f"${{NACOS_AUTH_IDENTITY_VALUE:{server._random()}}}",
        "nacos.core.auth.plugin.nacos.token.secret.key": f"${{NACOS_AUTH_TOKEN:{server._random()}}}",
    }
    return "".join(f"{name}={value}\n" for name, value in (usual | ports | of_variables).items())


MAKERS: Mapping[str, Callable[[Root], Sequence[str]]] = {
    "redis": redis,
    "zookeeper": zookeeper,
    "etcd": etcd(""),
    "etcd36": etcd(CURRENT),
    "nacos": nacos(3),
    "nacos2": nacos(2),
}
"""Each adds its files, and says what the image runs, if the test kit does not."""


def make(daemon: Any, product: Product) -> None:
    """Make the product's image from what is on this machine. Raises `Missing`."""
    if product.name not in MAKERS:
        raise Missing("nobody has written how to make it")
    repository, _, tag = product.image_name.rpartition(":")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "root.tar")
        root = Root(archive)
        try:
            command = MAKERS[product.name](root)
        finally:
            root.close()
        changes = ["ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "WORKDIR /data"]
        changes += [f"EXPOSE {product.image.port + offset}" for offset in product.offsets]
        command = command or product.image.command(False) or ()
        if command:
            changes.append(f"CMD [{', '.join(quoted(word) for word in command)}]")
        daemon.api.import_image_from_file(str(archive), repository=repository, tag=tag, changes=changes)


def quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def provide(daemon: Any, product: Product) -> str:
    """Have the image; how. Raises `Missing`."""
    name = product.image_name
    with contextlib.suppress(docker.errors.ImageNotFound):
        daemon.images.get(name)
        return "is here already"
    try:
        daemon.images.pull(name)
    except (docker.errors.APIError, docker.errors.DockerException, OSError):
        make(daemon, product)
        return "made from the programs of this machine, since it cannot be pulled"
    return "pulled"


def main(names: Sequence[str]) -> int:
    daemon = docker.from_env(timeout=PULL_SECONDS)
    failed = 0
    for name in names or PRODUCTS:
        product, began = PRODUCTS[name], time.monotonic()
        try:
            how = provide(daemon, product)
        except Missing as error:
            sys.stderr.write(f"{name}: no image {product.image_name}: {error}. {product.remedy}\n")
            failed += 1
            continue
        size = daemon.images.get(product.image_name).attrs["Size"] / 1e6
        sys.stdout.write(f"{name}: {product.image_name} {how} ({size:.0f} MB, {time.monotonic() - began:.1f} s)\n")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
