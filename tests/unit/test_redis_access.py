"""Who may use the Redis store: rights, logins, password files, certificates; and URLs that cannot be used."""

from __future__ import annotations

import contextlib
import functools
import logging
import pathlib
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator

import pytest
import redis
from echo_records import HERE, following, key, opened, record, values
from redis_stores import Make, bounded, kill, make, missing, namespace, store_at

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.redis import BACKEND
from sofa_registry_adapters.backends.redis.store import RedisStore
from sofa_registry_adapters.errors import Denied, InvalidURL, Refused, RegistryError, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Bucket
from sofa_registry_adapters.testing.faults.ports import free_port
from sofa_registry_adapters.testing.faults.waiting import eventually_async
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["make", "namespace"]


async def is_denied(store: RedisStore) -> bool:
    try:
        await store.read(HERE)
    except Unavailable:
        return False
    except Denied:
        return True
    return False


SECRET = "s3cret-canary"


@pytest.fixture
def users(redis_service: Service) -> Iterator[redis.Redis]:
    client = redis.Redis(host=redis_service.host, port=redis_service.port)
    yield client
    client.execute_command("ACL", "DELUSER", "app", "reader")
    client.close()


def documented_rules() -> list[str]:
    text = BACKEND.considerations
    return [*text[text.index("~sofa:*") : text.index("+del.")].split(), "+del"]


@bounded
async def test_the_documented_rights_are_enough(
    make: Make, users: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    users.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}", *documented_rules())
    store = make(f"app:{SECRET}@", lease=1)
    killed = make(f"app:{SECRET}@", lease=1)
    async with opened(store), contextlib.aclosing(store.watch(Bucket((), deep=True))) as messages:  # type: ignore[type-var]
        with pytest.raises(Denied):
            await anext(messages)
    users.execute_command("ACL", "SETUSER", "app", "allchannels")
    async with opened(store, killed), following(store, Bucket((), deep=True)), following(store) as follower:
        await killed.put([record("killed")])
        await kill(killed)
        await store.put([record(), record("b", owned=False)])
        revision = await store.compare_and_put(record("c"), None)
        await store.compare_and_delete(key("c"), revision)
        await store.delete([key("b")])
        await missing(store, set(), 1.0)
        await follower.shows({key(): b"1", key("killed"): b"1"})
        users.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

        async def swept() -> bool:
            await store.renew()
            return follower.values == {key(): b"1"}

        await eventually_async(swept, 3.0, interval=0.2)
        assert list(await store.buckets(())) == ["services"]
    assert SECRET not in caplog.text


@bounded
async def test_rights_to_read_are_enough_to_read(make: Make, users: redis.Redis) -> None:
    writing = {
        "+hset",
        "+hdel",
        "+hincrby",
        "+zadd",
        "+zrem",
        "+zremrangebylex",
        "+xadd",
        "+expire",
        "+persist",
        "+del",
    }
    rules = [rule for rule in documented_rules() if rule not in writing | {"+publish"}]
    users.execute_command("ACL", "SETUSER", "reader", "reset", "on", f">{SECRET}", *rules)
    writer, reader = make(lease=1), make(f"reader:{SECRET}@", lease=1)
    async with opened(writer, reader), following(reader) as follower:
        await writer.put([record()])
        await follower.shows({key(): b"1"})
        assert not await reader.renew()
        answers = await reader.put([record("b")])
        assert isinstance(answers[key("b")], Denied)
        with pytest.raises(Denied):
            await reader.compare_and_put(record("b"), None)
        await kill(writer)
        await eventually_async(functools.partial(empty, reader), 2.0, "a dead owner's records are not shown")
        assert not await reader.renew()


async def empty(store: RedisStore) -> bool:
    return not await values(store)


@pytest.mark.parametrize("user", ("app:wrong@", "nobody:x@", ":wrong@"))
def test_wrong_credentials_are_said_at_once(make: Make, users: redis.Redis, user: str) -> None:
    @bounded
    async def check() -> None:
        users.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}")
        store = make(user)
        with pytest.raises(Denied) as caught:
            await store.open()
        assert "wrong" not in str(caught.value)
        await store.close()

    check()


@pytest.fixture
def server_without_login(tmp_path: pathlib.Path) -> Iterator[int]:
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server program on this machine")
    port = free_port()
    command = f"redis-server --port {port} --rename-command AUTH '' --save '' --dir {tmp_path}"
    server = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        server.kill()
        server.wait()


def test_a_server_that_knows_no_login_is_not_quoted(
    server_without_login: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers "unknown command 'AUTH', with args beginning with:" and the password."""
    caplog.set_level(logging.DEBUG)
    port = server_without_login

    @bounded
    async def refused() -> None:
        open_to_all = store_at("127.0.0.1", port, "")
        await eventually_async(functools.partial(opens, open_to_all), 10.0, "the server answers")
        await open_to_all.close()
        store = store_at("127.0.0.1", port, "", f"app:{SECRET}@")
        with pytest.raises(Refused, match=r"unknown command .AUTH.$") as caught:
            await store.open()
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
        await store.close()

    refused()
    registry = Registry(f"redis://app:{SECRET}@127.0.0.1:{port}?snapshot=off&call_timeout=1s")
    with pytest.raises(RegistryError) as caught, registry:
        registry.publish("echo", "10.0.0.1:12200")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caplog.records
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("url", "part"),
    (
        ("redis://h/x", "database number"),
        ("redis://h/0/1", "database number"),
        ("redis://h/-1", "database number"),
        ("redis://h,i", "several servers"),
        ("redis://u:p@h?password_file=x", "keep one"),
        ("redis://h?prefix=", "prefix"),
        ("redis://h?prefix=a{b", "prefix"),
        ("redis://h?ca=x", "rediss"),
        ("rediss://h?key=x", "cert"),
        ("redis://h?lease=0.5s", "lease"),
        ("redis://h?leese=1s", "lease"),
    ),
)
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str, part: str) -> None:
    with pytest.raises(InvalidURL, match=part) as caught:
        parse_target(url, BACKEND)
    assert ":p@" not in str(caught.value)


def test_the_backend_is_described_without_its_client_library() -> None:
    code = (
        "import sys; from sofa_registry_adapters.backends.redis import BACKEND; "
        "sys.exit(' '.join({'redis', 'asyncio'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@bounded
async def test_the_path_is_the_database(redis_service: Service, namespace: str, make: Make) -> None:
    url = f"redis://{redis_service.host}:{redis_service.port}/5?namespace={namespace}"
    other = RedisStore(parse_target(url, BACKEND), SystemClock())
    store = make()
    async with opened(store, other):
        await store.put([record()])
        assert await values(store) == {key(): b"1"}
        assert await values(other) == {}


@bounded
async def test_the_password_file_is_read_at_each_connect(
    make: Make, users: redis.Redis, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    users.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}", *documented_rules())
    store = make("app@", password_file=str(file))
    async with opened(store):
        users.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
        users.execute_command("CLIENT", "KILL", "USER", "app")
        await eventually_async(functools.partial(is_denied, store), 3.0)
        file.write_text("other")
        assert await values(store) == {}
    gone = make("app@", password_file=str(tmp_path / "none"))
    with pytest.raises(InvalidURL, match="password_file"):
        await gone.open()


@pytest.fixture
def tls(tmp_path: pathlib.Path) -> Iterator[tuple[int, pathlib.Path]]:
    if not (shutil.which("openssl") and shutil.which("redis-server")):
        pytest.skip("no openssl and redis-server programs on this machine")
    key_file, certificate, port = tmp_path / "key", tmp_path / "certificate", free_port()
    make_key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=x"
    subprocess.run(
        [*make_key.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key_file, "-out", certificate],
        check=True,
        capture_output=True,
    )
    files = f"--tls-cert-file {certificate} --tls-key-file {key_file} --tls-ca-cert-file {certificate}"
    command = f"redis-server --port 0 --tls-port {port} --tls-auth-clients no {files} --save '' --dir {tmp_path}"
    server = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL)
    try:
        yield port, certificate
    finally:
        server.kill()
        server.wait()


@bounded
async def test_tls_verifies_the_certificate_and_the_name(tls: tuple[int, pathlib.Path]) -> None:
    port, certificate = tls

    def at(url: str, **options: str) -> RedisStore:
        return RedisStore(parse_target(url, BACKEND, options), SystemClock())

    good = at(f"rediss://localhost:{port}", ca=str(certificate))
    await eventually_async(functools.partial(opens, good), 10.0, "a server with TLS")
    async with following(good) as follower:
        await good.put([record()])
        await follower.shows({key(): b"1"})
    await good.close()
    for bad, why in (
        (at(f"rediss://127.0.0.1:{port}", ca=str(certificate)), "not valid for"),
        (at(f"rediss://localhost:{port}"), "self-signed"),
    ):
        with pytest.raises(Unavailable, match=why):
            await bad.open()
    with pytest.raises(Unavailable):
        await at(f"redis://localhost:{port}").open()


async def opens(store: RedisStore) -> bool:
    with contextlib.suppress(Unavailable):
        await store.open()
        return True
    return False
