"""A secret that must show up nowhere: logs of every library, representations, errors, events, files, the command line."""

from __future__ import annotations

import base64
import contextlib
import gc
import logging
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sofa_registry_adapters import ConfigCenter, Registry
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.events import Event
from sofa_registry_adapters.testing.faults import Authority, eventually
from sofa_registry_adapters.testing.plugin import OwnEtcd, OwnNacos, OwnService
from sofa_registry_adapters.testing.services import PRODUCTS, Service, ServiceUnavailable
from sofa_registry_adapters.testing.services.accounts import zookeeper_with_accounts
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.operating import EtcdOperator
from sofa_registry_adapters.testing.services.secured import Papers, secured

FIRST, SECOND = "c4n4ryB1rd", "s1ngsAl0ud"
PASSWORD = f"{FIRST}/?{SECOND}@"
"""Parts of it count as well: whoever splits a URL in the wrong place shows one of them."""
USER = "ann"
QUICK = {"call_timeout": 1.0, "protection_hold": 0}


class Trap(logging.Handler):
    """Collects whatever anybody could see."""

    def __init__(self, folder: Path) -> None:
        super().__init__(1)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.folder = folder
        self.secrets = [FIRST, SECOND]
        for text in (PASSWORD, f"{USER}:{PASSWORD}", f":{PASSWORD}"):
            self.secrets.append(base64.b64encode(text.encode()).decode().rstrip("="))
        self.seen: list[tuple[str, str]] = []
        self.loggers: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.loggers.add(record.name)
        self.see(f"log of {record.name}", f"{self.format(record)} {record.args!r} {record.stack_info}")

    def see(self, where: str, *things: object) -> None:
        self.seen += [(where, form(thing)) for thing in things for form in (str, repr)]

    @contextlib.contextmanager
    def errors(self, *, expected: bool = False) -> Iterator[None]:
        raised: BaseException | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, it is looked at
            raised = error
            self.see("error", error, "".join(traceback.format_exception(error)))
        assert raised is not None or not expected, "an error was expected"
        assert raised is None or isinstance(raised, RegistryError), raised
        while raised is not None:
            self.see("cause", raised, raised.args, vars(raised))
            raised = raised.__cause__ or raised.__context__

    def objects(self) -> None:
        """Everything of ours that is alive, as a debugger or a crash report shows it."""
        for one in gc.get_objects():
            module = str(type(one).__module__)
            if module.startswith("sofa_registry_adapters.") and ".testing." not in module:
                with contextlib.suppress(Exception):
                    self.see(f"repr of {type(one).__qualname__}", repr(one))

    def files(self) -> None:
        for path in self.folder.rglob("*"):
            self.see("file name", str(path.relative_to(self.folder)))
            if path.is_file():
                self.see(f"file {path.name}", path.read_bytes().decode("utf-8", "replace"))

    def leaks(self) -> list[str]:
        self.files()
        return sorted(
            {f"{where}: {text[:80]}" for where, text in self.seen for secret in self.secrets if secret in text}
        )


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("SOFA_REGISTRY_URL", raising=False)
    trap = Trap(tmp_path / "home")
    root = logging.getLogger()
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(one, one.level, one.disabled) for one in loggers]
    for one in loggers:
        one.setLevel(1)
        one.disabled = False
    root.addHandler(trap)
    yield trap
    root.removeHandler(trap)
    for one, level, disabled in before:
        one.setLevel(level)
        one.disabled = disabled


class Ordeal:
    """One backend through everything."""

    def __init__(self, trap: Trap, capfd: pytest.CaptureFixture[str], service: Service, **options: Any) -> None:
        self.trap, self.capfd, self.service = trap, capfd, service
        self.options = {**QUICK, **options}

    def url(self, url: str) -> str:
        return f"{url}?{'&'.join(f'{name}={value}' for name, value in self.options.items())}"

    def run(self, good: str, wrong: str = "", denied: str = "") -> None:
        with Registry(self.url(good)) as registry, ConfigCenter(self.url(good)) as center:
            registry.events.on(Event, lambda event: self.trap.see("event", event))
            self.trap.see("face", registry, registry.target, center)
            self.use(registry, center)
            self.commands(self.url(good), "services", "doctor")
            self.trap.objects()
            self.freeze(registry, good)
            self.kill(registry, good)
            self.trap.objects()
        for bad in filter(None, (wrong, denied)):
            self.refused(bad)
        self.trap.see("output", *self.capfd.readouterr())
        assert not self.trap.leaks()
        assert any(name.startswith("sofa_registry_adapters") for name in self.trap.loggers), "the trap hears"

    def use(self, registry: Registry, center: ConfigCenter) -> None:
        handle = registry.publish("canary", "10.0.0.1:1", metadata={"a": "b"}, timeout=10)
        subscription = registry.subscribe("canary", lambda change: self.trap.see("change", change), timeout=10)
        self.trap.see("handle", handle, subscription, registry.lookup("canary", timeout=10))
        center.publish("canary", "text", timeout=10)
        listening = center.add_listener("canary", lambda change: self.trap.see("change", change), timeout=10)
        self.trap.see("config", center.get("canary", timeout=10), listening)

    @staticmethod
    def commands(url: str, *names: str) -> None:
        for name in names:
            main([name, "--url", url, "--timeout", "1"])

    def freeze(self, registry: Registry, good: str) -> None:
        self.service.pause()
        try:
            with self.trap.errors():
                registry.lookup(f"never-{uuid.uuid4().hex}", timeout=0.5)
            with Registry(self.url(good)) as other, self.trap.errors(expected=True):
                other.lookup("other", timeout=1.5)
            self.commands(self.url(good), "services")
        finally:
            self.service.resume()

    def kill(self, registry: Registry, good: str) -> None:
        self.service.kill()
        try:
            with self.trap.errors(expected=True):
                registry.lookup(f"never-{uuid.uuid4().hex}", timeout=0.5)
            with Registry(self.url(good)) as other, self.trap.errors(expected=True):
                other.lookup("other", timeout=1.5)
            self.commands(self.url(good), "services", "doctor")
        finally:
            self.service.start()

        def back() -> bool:
            with contextlib.suppress(RegistryError):
                registry.lookup(f"never-{uuid.uuid4().hex}", timeout=1)
                return True
            return False

        eventually(back, 30.0, "the registry is back")

    def refused(self, url: str) -> None:
        with Registry(self.url(url)) as registry, ConfigCenter(self.url(url)) as center:
            registry.events.on(Event, lambda event: self.trap.see("event", event))
            with self.trap.errors(expected=True):
                registry.publish("canary", "10.0.0.2:1", timeout=2)
            with self.trap.errors():
                registry.lookup("canary", timeout=2)
            with self.trap.errors():
                center.publish("canary", "text", timeout=2)
            self.trap.objects()
        self.commands(self.url(url), "services", "doctor")


def quoted(password: str) -> str:
    return quote(password, safe="")


def of(service: Service, scheme: str, path: str, user: str = USER, password: str = PASSWORD) -> str:
    return f"{scheme}://{user}:{quoted(password)}@{service.host}:{service.port}{path}"


@pytest.mark.slow
def test_redis(trap: Trap, capfd: pytest.CaptureFixture[str]) -> None:
    prepare = PRODUCTS["redis"].local()
    if isinstance(prepare, str):
        pytest.skip(prepare)
    users = (f"--user {USER} on >{PASSWORD} ~* &* +@all", f"--user weak on >{PASSWORD} ~none:* &none:* +@all")

    def guarded(*given: Any) -> list[str]:
        return [*prepare(*given), *(word for user in users for word in user.split())]

    service = LocalService(PRODUCTS["redis"], guarded, persistent=False)
    try:
        ordeal = Ordeal(trap, capfd, service)
        good = of(service, "redis", "")
        ordeal.run(good, of(service, "redis", "", password=PASSWORD[::-1] + FIRST), of(service, "redis", "", "weak"))
    finally:
        service.close()


@pytest.mark.slow
def test_zookeeper(trap: Trap, capfd: pytest.CaptureFixture[str], own_zookeeper: OwnService) -> None:
    service, root = own_zookeeper(), f"/{uuid.uuid4().hex}"
    ordeal = Ordeal(trap, capfd, service, session_timeout=2)
    good = of(service, "zookeeper", root)
    ordeal.run(good, of(service, "zookeeper", root, password=f"wrong{FIRST}"), of(service, "zk", root, "bob"))


@pytest.mark.slow
def test_zookeeper_with_accounts(trap: Trap, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        service = zookeeper_with_accounts({USER: PASSWORD, "bob": PASSWORD})
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    with service:
        root = f"/{uuid.uuid4().hex}"
        ordeal = Ordeal(trap, capfd, service, session_timeout=2, sasl="digest-md5")
        good = of(service, "zookeeper", root)
        ordeal.run(good, of(service, "zookeeper", root, password=f"wrong{FIRST}"), of(service, "zk", root, "bob"))


@pytest.fixture
def etcd(own_etcd36: OwnEtcd) -> Service:
    # Before the trap moves the user's folders, one of which has the program.
    return own_etcd36()


@pytest.mark.slow
def test_etcd(etcd: Service, trap: Trap, capfd: pytest.CaptureFixture[str]) -> None:
    service, operator = etcd, EtcdOperator(etcd)
    operator.demand_passwords(PASSWORD)
    operator.add_user(USER, PASSWORD, "/canary/")
    operator.add_user("weak", PASSWORD, "/other/")
    ordeal = Ordeal(trap, capfd, service)
    good = of(service, "etcd", "/canary")
    with tokens(trap, "sofa_registry_adapters.backends.etcd.link", "Link", "token"):
        ordeal.run(
            good, of(service, "etcd", "/canary", password=f"wrong{FIRST}"), of(service, "etcd", "/canary", "weak")
        )


@contextlib.contextmanager
def tokens(trap: Trap, module: str, kind: str, name: str) -> Iterator[None]:
    """What the server gives out instead of the password is as good as that."""
    see = trap.objects

    def look() -> None:
        found = [one for one in gc.get_objects() if (type(one).__module__, type(one).__qualname__) == (module, kind)]
        trap.secrets += [token for one in found if (token := getattr(one, name))]
        see()

    trap.objects = look  # type: ignore[method-assign]
    before = len(trap.secrets)
    yield
    assert len(trap.secrets) > before, "a token was found"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nacos(trap: Trap, capfd: pytest.CaptureFixture[str], own_nacos: OwnNacos) -> None:
    service = own_nacos(password=PASSWORD)
    ordeal = Ordeal(trap, capfd, service)
    good = of(service, "nacos", "", "nacos")
    with tokens(trap, "sofa_registry_adapters.backends.nacos.access", "Access", "_token"):
        ordeal.run(good, of(service, "nacos", "", "nacos", f"wrong{FIRST}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ("redis", "etcd", "zookeeper"))
def test_a_private_key(name: str, trap: Trap, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if not Authority.possible():
        pytest.skip("no openssl on the PATH")
    authority = Authority(tmp_path / "authority")
    try:
        service = secured(name, Papers(authority, authority.issue("server", "DNS:localhost"), demanding=True))
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    try:
        mine, strange = authority.issue("ann"), Authority(tmp_path / "stranger").issue("bob")
        for key in (mine.key, strange.key):
            trap.secrets += [line for line in key.read_text().splitlines() if "-" not in line]
        ordeal = Ordeal(trap, capfd, service, ca=authority.ca)
        port = service.port + (name == "zookeeper")
        url = f"{name}s://localhost:{port}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(ordeal.options, "cert", mine.cert)
            patch.setitem(ordeal.options, "key", mine.key)
            ordeal.run(url)
            # A key that does not fit, one of a stranger, and none at all.
            for cert, private in ((mine.cert, strange.key), (strange.cert, strange.key), (mine.key, mine.key)):
                ordeal.options |= {"cert": cert, "key": private}
                ordeal.refused(url)
            trap.see("output", *capfd.readouterr())
            assert not trap.leaks()
    finally:
        service.close()


def test_local_and_memory_have_none_to_lose(tmp_path: Path) -> None:
    for url in (f"memory://{USER}:{PASSWORD}@x", f"local://{USER}:{quoted(PASSWORD)}@/{tmp_path}/x.db"):
        with contextlib.suppress(RegistryError):
            shown = repr(Registry(url))
            assert FIRST not in shown
            assert SECOND not in shown


def test_the_trap_catches(trap: Trap) -> None:
    logging.getLogger("some.library").debug("connecting with %s", {"password": PASSWORD})
    with trap.errors():
        try:
            raise OSError(f"no route to redis://{USER}:{PASSWORD}@h")
        except OSError as error:
            raise RegistryError("it cannot be reached") from error
    trap.folder.mkdir()
    (trap.folder / "file").write_text(f"token={SECOND}")
    assert {leak.partition(":")[0] for leak in trap.leaks()} == {"log of some.library", "error", "cause", "file file"}
