"""ZooKeeper with accounts: a login by SASL (DIGEST-MD5) against a real server with a JAAS file."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from sofa_registry_adapters import ConfigCenter, Registry
from sofa_registry_adapters.backends.zookeeper import access
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.errors import Denied, InvalidURL, MissingDependency, RegistryError, Unavailable
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.services import Service, ServiceUnavailable
from sofa_registry_adapters.testing.services.accounts import zookeeper_with_accounts

ACCOUNTS = {"ann": 'first"\\word', "bob": "an/other@word"}
OPTIONS = {"snapshot": "off", "sasl": "digest-md5", "call_timeout": 2.0, "session_timeout": 2.0}
TIMEOUT = 2.0


@pytest.fixture(scope="module")
def accounts() -> dict[str, str]:
    return dict(ACCOUNTS)


@pytest.fixture(scope="module")
def zookeeper(accounts: dict[str, str]) -> Iterator[Service]:
    yield from served(accounts)


@pytest.fixture(scope="module")
def demanding(accounts: dict[str, str]) -> Iterator[Service]:
    yield from served(accounts, demanding=True)


def served(accounts: dict[str, str], *, demanding: bool = False) -> Iterator[Service]:
    try:
        service = zookeeper_with_accounts(accounts, demanding=demanding)
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    yield service
    service.close()


@pytest.fixture
def root() -> str:
    return uuid.uuid4().hex


def sign_in(place: str, user: str = "ann", password: str = "", **options: object) -> Registry:
    return Registry(
        f"zookeeper://{place}", options=OPTIONS | options, credentials=lambda: (user, password or ACCOUNTS[user])
    )


def at(service: Service, root: str) -> str:
    return f"{service.host}:{service.port}/{root}"


@pytest.mark.parametrize("strict", (False, True), ids=("optional", "demanded"))
def test_the_whole_path(strict: bool, root: str, request: pytest.FixtureRequest) -> None:
    place = at(request.getfixturevalue("demanding" if strict else "zookeeper"), root)
    with sign_in(place) as ann, sign_in(place) as again, sign_in(place, "bob") as bob:
        seen: list[int] = []
        ann.publish("echo", "10.0.0.1:1")
        again.subscribe("echo", lambda change: seen.append(len(change.instances)))
        second = again.publish("echo", "10.0.0.2:1")
        eventually(lambda: seen[-1] == 2, 5.0, "both are seen")
        second.unpublish()
        eventually(lambda: seen[-1] == 1, 5.0, "one is withdrawn")
        # What ann writes is ann's.
        with pytest.raises(Denied):
            bob.lookup("echo", timeout=TIMEOUT)
        with pytest.raises(Denied):
            bob.publish("echo", "10.0.0.3:1", timeout=TIMEOUT)


def test_what_is_written_belongs_to_the_account(zookeeper: Service, root: str) -> None:
    with sign_in(at(zookeeper, root), acl="readable") as ann:
        ann.publish("echo", "10.0.0.1:1")
        operator = KazooClient(f"127.0.0.1:{zookeeper.port}")
        operator.start()
        try:
            path = f"/{root}"
            while children := operator.get_children(path):
                path += f"/{children[0]}"
            acls, _ = operator.get_acls(path)
        finally:
            operator.stop()
            operator.close()
    assert sorted((one.perms, one.id.scheme, one.id.id) for one in acls) == [
        (1, "world", "anyone"),
        (31, "sasl", "ann"),
    ]


@pytest.mark.parametrize(("user", "password"), (("ann", "wrong-word"), ("nobody", "wrong-word")))
def test_a_wrong_password(zookeeper: Service, root: str, user: str, password: str) -> None:
    with sign_in(at(zookeeper, root), user, password) as registry:
        for verb in (
            lambda: registry.lookup("echo", timeout=TIMEOUT),
            lambda: registry.publish("echo", "10.0.0.1:1", timeout=TIMEOUT),
            lambda: registry.subscribe("echo", lambda _: None, timeout=TIMEOUT),
        ):
            began = time.monotonic()
            with pytest.raises(Denied, match="refused the credentials") as raised:
                verb()
            assert time.monotonic() - began < TIMEOUT * 1.1
            assert "-word" not in str(raised.value)
    with (
        ConfigCenter(f"zookeeper://{user}:{password}@{at(zookeeper, root)}", options=OPTIONS) as center,
        pytest.raises(Denied),
    ):
        center.get("a", timeout=TIMEOUT)


def test_a_server_that_demands_it(demanding: Service, root: str) -> None:
    with Registry(f"zookeeper://{at(demanding, root)}", options=OPTIONS | {"sasl": ""}) as anybody:
        with pytest.raises(Denied, match="the option sasl"):
            anybody.lookup("echo", timeout=TIMEOUT)
        with pytest.raises(RegistryError, match="the option sasl"):
            anybody.publish("echo", "10.0.0.1:1", timeout=TIMEOUT)


def test_a_server_without_accounts(zookeeper_service: Service, root: str) -> None:
    with sign_in(at(zookeeper_service, root)) as registry:
        began = time.monotonic()
        with pytest.raises((Denied, Unavailable)):
            registry.lookup("echo", timeout=TIMEOUT)
        assert time.monotonic() - began < TIMEOUT * 1.1


def test_a_line_that_is_cut_during_the_login_is_no_refusal(zookeeper: Service, root: str) -> None:
    with NetProxy(zookeeper.address) as proxy:
        # The greeting of a session has less than a hundred bytes both ways, the steps of the login have some hundreds.
        for count in range(100, 600, 50):
            cuts = proxy.cuts
            proxy.cut_after(count)
            with sign_in(f"{proxy.address}/{root}") as registry:
                registry.publish("echo", "10.0.0.1:1", timeout=10.0)
            assert proxy.cuts > cuts
            proxy.pass_through()


def test_a_password_that_changes(accounts: dict[str, str], root: str) -> None:
    changing = dict(accounts)
    try:
        service = zookeeper_with_accounts(changing)
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    with (
        service,
        Registry(
            f"zookeeper://{at(service, root)}", options=OPTIONS, credentials=lambda: ("ann", changing["ann"])
        ) as registry,
    ):
        handle = registry.publish("echo", "10.0.0.1:1")
        changing["ann"] = "second-word"
        service.kill()
        service.start()

        def works() -> bool:
            try:
                return handle.state == "live" and len(registry.lookup("other", timeout=1.0)) == 0
            except RegistryError:
                return False

        eventually(works, 15.0, "it logs in with the new password")
        with sign_in(at(service, root), password="second-word") as other:
            eventually(lambda: len(other.lookup("echo", timeout=TIMEOUT)) == 1, 5.0, "and is published again")


def test_a_revoked_account_comes_back(accounts: dict[str, str], root: str) -> None:
    changing = dict(accounts)
    try:
        service = zookeeper_with_accounts(changing)
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    with service, sign_in(at(service, root)) as registry:
        handle = registry.publish("echo", "10.0.0.1:1")
        view: list[int] = []
        registry.subscribe("echo", lambda change: view.append(len(change.instances)))
        word = changing.pop("ann")
        service.kill()
        service.start()

        def refused() -> bool:
            try:
                registry.lookup("other", timeout=1.0)
            except Denied:
                return True
            except RegistryError:
                return False
            return False

        eventually(refused, 15.0, "the account is not known any more")
        assert [one.address for one in registry.lookup("echo")] == ["10.0.0.1:1"], "what was known stays"
        changing["ann"] = word
        service.kill()
        service.start()
        with sign_in(at(service, root)) as other:
            eventually(lambda: len(other.lookup("echo", timeout=TIMEOUT)) == 1, 15.0, "it is published again")
        eventually(lambda: handle.state == "live", 5.0, "and says so")
        assert set(view) == {1}


def test_what_cannot_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("zk://h?sasl=digest-md5", "zk://ann:word@h?sasl=gssapi"):
        with pytest.raises(InvalidURL):
            Registry(bad)
    monkeypatch.setattr(access, "find_spec", lambda _: None)
    with (
        Registry("zk://ann:word@127.0.0.1:1?sasl=digest-md5&snapshot=off") as registry,
        pytest.raises(MissingDependency, match=r"zookeeper-sasl"),
    ):
        registry.lookup("echo", timeout=1.0)


def test_the_doctor(zookeeper: Service, root: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.touch(0o600)
    for password, status, said in (
        (ACCOUNTS["ann"], 0, "opened as the user 'ann'"),
        ("wrong", 1, "refused the credentials"),
    ):
        word.write_text(password)
        url = f"zookeeper://ann@{at(zookeeper, root)}?sasl=digest-md5&password_file={word}&snapshot=off"
        assert main(["doctor", "--url", url, "--timeout", "3"]) == status
        assert said in " ".join("".join(capsys.readouterr()).split())
