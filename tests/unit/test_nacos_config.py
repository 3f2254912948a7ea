"""Nacos as a config center beyond the contract: other clients, both lines, and what nacos-sdk-python gets wrong."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters import ABSENT, ConfigCenter, ConfigItem
from sofa_registry_adapters.backends.nacos import BACKEND
from sofa_registry_adapters.backends.nacos.config import NacosConfig
from sofa_registry_adapters.backends.nacos.config_lines import FromCopy, FromDatabase
from sofa_registry_adapters.backends.nacos.names import config_key, config_name
from sofa_registry_adapters.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    InvalidArgument,
    InvalidName,
    RegistryError,
    Unavailable,
)
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.testing.faults import eventually, eventually_async
from sofa_registry_adapters.testing.plugin import OwnNacos
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.services.local import LocalService

pytestmark = pytest.mark.timeout(300)

KEY = "pool.yaml"
PASSWORD = "a password: 'ü/@%'"
LINES = (2, 3)


@pytest.fixture(params=LINES)
def line(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def service(line: int, request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue("nacos2_service" if line == 2 else "nacos_service")
    return found


@pytest.fixture
def space() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def url(service: Service, space: str) -> str:
    return f"{service.url}/{space}"


@pytest.fixture
def center(url: str) -> Iterator[ConfigCenter]:
    with ConfigCenter(url, options={"snapshot": "off"}) as opened:
        yield opened


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            async with asyncio.timeout(120):
                await test(*args, **kwargs)
            await eventually_async(lambda: len(asyncio.all_tasks()) == 1, 2.0, "no task is left")

        asyncio.run(main())

    return run


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[NacosConfig]:
    backend = NacosConfig(parse_target(url, BACKEND, options), SystemClock())
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


async def value(backend: NacosConfig, key: ConfigKey) -> ConfigItem:
    found = await backend.get(key)
    assert isinstance(found, ConfigItem)
    return found


def key(name: str = KEY, group: str = "orders") -> ConfigKey:
    return ConfigKey(name, group)


class Stranger:
    """Another client of Nacos: its HTTP interface, as its console and scripts use it."""

    def __init__(self, service: Service, line: int, space: str, token: str = "") -> None:
        self.line = line
        self._server = f"http://{service.host}:{service.port}/nacos"
        self._token = token
        group, tenant = ("group", "tenant") if line == 2 else ("groupName", "namespaceId")
        self._about = {group: "orders", tenant: space}
        self._path = "/v1/cs/configs" if line == 2 else "/v3/admin/cs/config"

    def call(self, method: str, path: str, **fields: str) -> Any:
        text = urlencode(fields)
        form = text.encode() if method == "POST" else None
        query = "" if method == "POST" else f"?{text}"
        request = Request(f"{self._server}{path}{query}", form, {"accessToken": self._token}, method=method)
        with urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def publish(self, data_id: str, content: str, **more: str) -> None:
        self.call("POST", self._path, dataId=data_id, content=content, **self._about, **more)

    def remove(self, data_id: str) -> None:
        self.call("DELETE", self._path, dataId=data_id, **self._about)

    def row(self, data_id: str) -> dict[str, Any]:
        try:
            found = self.call("GET", self._path, dataId=data_id, show="all", **self._about)
        except HTTPError as error:
            if error.code != 404:
                raise
            return {}
        return dict((found or {}) if self.line == 2 else found["data"])


@pytest.fixture
def stranger(service: Service, line: int, space: str) -> Stranger:
    return Stranger(service, line, space)


class TestWithOtherClients:
    def test_what_we_publish_is_theirs_to_read(self, center: ConfigCenter, stranger: Stranger) -> None:
        center.publish("a:b.c_d-e", "size: 10", group="orders", content_type="yaml")
        row = stranger.row("a:b.c_d-e")
        assert (row["content"], row["type"]) == ("size: 10", "yaml")

    def test_what_they_publish_is_ours_to_read_and_to_be_told_of(
        self, center: ConfigCenter, stranger: Stranger
    ) -> None:
        seen: list[object] = []
        center.add_listener(KEY, lambda change: seen.append(change.item and change.item.content), group="orders")
        stranger.publish(KEY, "theirs", type="json", src_user="somebody", srcUser="somebody")
        eventually(lambda: seen == [None, "theirs"], 5, "it is told")
        item = center.get(KEY, group="orders")
        assert item is not None
        assert (item.content, item.content_type) == ("theirs", "json")
        assert center.keys(group="orders") == [KEY]
        fresh = center.publish(KEY, "ours", group="orders", expected_revision=item.revision)
        with pytest.raises(Conflict):
            center.publish(KEY, "late", group="orders", expected_revision=item.revision)
        stranger.publish(KEY, "theirs again")
        with pytest.raises(Conflict) as caught:
            center.publish(KEY, "later", group="orders", expected_revision=fresh)
        assert caught.value.expected == fresh
        stranger.remove(KEY)
        eventually(lambda: seen[-1] is None, 5, "the removal is told")
        contents = [one.content for one in center.history(KEY, group="orders")]
        assert contents == ["theirs again", "ours", "theirs"]
        center.rollback(KEY, center.history(KEY, group="orders")[-1].revision, group="orders")
        assert stranger.row(KEY)["content"] == "theirs"

    def test_a_value_of_theirs_that_came_back_is_another(self, center: ConfigCenter, stranger: Stranger) -> None:
        seen = set()
        for content in ("a", "b", "a"):
            stranger.publish(KEY, content)
            item = center.get(KEY, group="orders")
            assert item is not None
            seen.add(item.revision)
        stranger.remove(KEY)
        stranger.publish(KEY, "a")
        item = center.get(KEY, group="orders")
        assert item is not None
        assert len(seen | {item.revision}) == 4

    def test_a_value_for_clients_that_decrypt_is_left_as_it_is(
        self, center: ConfigCenter, stranger: Stranger, line: int
    ) -> None:
        revision = center.publish("cipher-aes-secret", "x", group="orders")
        assert not stranger.row("cipher-aes-secret")["encryptedDataKey"]
        item = center.get("cipher-aes-secret", group="orders")
        assert item is not None
        assert item.revision == revision
        center.publish("plain", "x", group="orders")
        assert bool(stranger.row("plain")["encryptedDataKey"]) == (line == 3)

    def test_a_content_type_that_nacos_does_not_know_is_kept_beside_it(
        self, center: ConfigCenter, stranger: Stranger
    ) -> None:
        for kind in ("text/x-ours", "yaml", ""):
            center.publish(KEY, f"of {kind}", group="orders", content_type=kind)
        assert stranger.row(KEY)["type"] in {"unset", "text"}
        assert [one.content_type for one in center.history(KEY, group="orders")] == ["", "yaml", "text/x-ours"]

    def test_names_that_are_none_of_ours_are_passed_over(self, center: ConfigCenter, stranger: Stranger) -> None:
        stranger.publish("not__41an__7Eescape", "x")
        stranger.publish("plain", "x")
        assert center.keys(group="orders") == ["plain"]


class TestConditions:
    @bounded
    async def test_of_two_with_the_same_content_one_holds(self, url: str) -> None:
        """A server that says yes to both, as 2.2.4 does, is not believed."""
        async with opened(url) as one, opened(url) as other:
            await one.publish(key(), ConfigDraft("free"), None)
            for _ in range(20):
                free = await value(one, key())
                results = await asyncio.gather(
                    *(backend.publish(key(), ConfigDraft("taken"), free.revision) for backend in (one, other)),
                    return_exceptions=True,
                )
                assert sorted(type(result).__name__ for result in results) == ["Conflict", "str"]
                held = await value(one, key())
                assert held.revision in results
                await other.publish(key(), ConfigDraft("free"), held.revision)

    @bounded
    async def test_of_several_without_conditions_each_is_in_the_history(self, url: str) -> None:
        async with opened(url) as one, opened(url) as other:
            await asyncio.gather(
                *(one.publish(key(), ConfigDraft(f"one {number}"), None) for number in range(10)),
                *(other.publish(key(), ConfigDraft(f"other {number}"), None) for number in range(10)),
            )
            found = await one.history(key(), 50)
            assert len({item.content for item in found}) == 20

    @bounded
    async def test_a_condition_that_did_not_hold_is_nothing_in_the_history(self, url: str, line: int) -> None:
        async with opened(url) as backend:
            first = await backend.publish(key(), ConfigDraft("a"), ABSENT)
            second = await backend.publish(key(), ConfigDraft("b"), first)
            # What a client does that does not look first; the embedded database of line 2 makes an entry of it.
            assert backend._line is not None
            place = backend._place(key())
            assert await backend._line._put(place, ConfigDraft("c"), first, {}) is (line == 2)
            assert [item.revision for item in await backend.history(key(), 10)] == [second, first]

    @bounded
    async def test_a_removal_compares_first(self, url: str) -> None:
        async with opened(url) as backend:
            first = await backend.publish(key(), ConfigDraft("a"), None)
            second = await backend.publish(key(), ConfigDraft("b"), None)
            with pytest.raises(Conflict) as caught:
                await backend.remove(key(), first)
            assert (caught.value.expected, caught.value.present) == (first, second)
            assert await backend.remove(key(), second) is True
            with pytest.raises(Conflict):
                await backend.remove(key(), second)
            assert await backend.remove(key(), None) is False


class TestWhatIsNoValue:
    @bounded
    async def test_never_there_is_told_from_removed(self, url: str) -> None:
        async with opened(url) as backend:
            assert await backend.get(key()) is ABSENT
            await backend.publish(key(), ConfigDraft("a"), None)
            await backend.remove(key(), None)
            assert await backend.get(key()) is None

    @pytest.mark.parametrize("content", ("", " ", "\n\t", "\u3000"))
    def test_blank_text_is_refused(self, center: ConfigCenter, content: str) -> None:
        with pytest.raises(InvalidArgument, match="does not take the value of DEFAULT_GROUP/blank: content is blank"):
            center.publish("blank", content)
        assert center.get("blank") is None

    def test_bytes_are_refused(self, center: ConfigCenter) -> None:
        with pytest.raises(InvalidArgument, match="text only"):
            center.publish("binary", b"\xff")

    @bounded
    async def test_bytes_are_refused_by_the_backend_too(self, url: str) -> None:
        async with opened(url) as backend:
            with pytest.raises(InvalidArgument, match="text only"):
                await backend.publish(key(), ConfigDraft(b"\xff"), None)
            await backend.publish(key(), ConfigDraft("ü".encode()), None)
            assert (await value(backend, key())).content == "ü"

    def test_the_largest_value_may_be_made_of_what_is_large_on_the_wire(self, center: ConfigCenter) -> None:
        content = "\x01" * center.capabilities.max_config_bytes
        center.publish("large", content, timeout=20)
        item = center.get("large")
        assert item is not None
        assert item.content == content


class TestNames:
    @given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20))
    def test_a_name_is_what_nacos_takes_and_leads_back(self, text: str) -> None:
        data_id, group = config_name(ConfigKey(text, text))
        assert set(data_id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:.")
        assert data_id.strip("."), "no folder of the server"
        assert config_key(data_id) == text
        assert len(group) <= 128

    @pytest.mark.parametrize("name", ("pool.yaml", "a:b", "com.acme:pool_1-x", "A__41", "x" * 255))
    def test_a_usual_name_stays(self, name: str) -> None:
        data_id = config_name(ConfigKey(name))[0]
        assert (data_id == name) == (name != "A__41")
        assert config_key(data_id) == name

    def test_long_groups_stay_apart(self) -> None:
        groups = {config_name(ConfigKey(KEY, "x" * 254 + last))[1] for last in "ab"}
        assert len(groups) == 2
        assert {len(group) for group in groups} == {128}

    def test_a_key_that_is_too_long_is_refused(self) -> None:
        with pytest.raises(InvalidName, match="has 272 characters in Nacos, which takes 255"):
            config_name(ConfigKey("日" * 17 + "x" * 68))


class TestFromTheCopy:
    """A server as it comes from its makers: clients need no account, but the HTTP interface for administration wants one."""

    @pytest.fixture
    def server(self, own_nacos: OwnNacos) -> Service:
        return own_nacos(settings={"nacos.core.auth.admin.enabled": "true"})

    @bounded
    async def test_values_are_read_from_the_copy_and_writes_wait_for_it(self, server: Service, space: str) -> None:
        async with opened(f"{server.url}/{space}") as backend, opened(f"{server.url}/{space}") as other:
            assert isinstance(backend._line, FromCopy)
            assert await backend.get(key()) is None, "whether it was removed nobody tells"
            seen: list[object] = []
            following = asyncio.create_task(follow(other, seen))
            revision = await backend.publish(key(), ConfigDraft("0", "yaml"), ABSENT)
            for number in range(1, 11):
                revision = await backend.publish(key(), ConfigDraft(str(number)), revision)
                found = await value(backend, key())
                assert (found.content, found.revision) == (str(number), revision)
            await eventually_async(lambda: seen[-1:] == ["10"], 5, "it is told")
            with pytest.raises(Conflict) as caught:
                await backend.publish(key(), ConfigDraft("x"), ABSENT)
            assert caught.value.present == revision
            with pytest.raises(Conflict):
                await backend.remove(key(), "0" * 32 + ".1")
            assert await backend.remove(key(), revision) is True
            assert await backend.get(key()) is None
            again = await backend.publish(key(), ConfigDraft("10"), ABSENT)
            assert again != revision
            assert await backend.publish(key(), ConfigDraft("10"), again) == again, "equal content is not told apart"
            following.cancel()
            await asyncio.wait((following,))

    @bounded
    async def test_two_writers_that_count_up_lose_no_step(self, server: Service, space: str) -> None:
        async with opened(f"{server.url}/{space}") as one, opened(f"{server.url}/{space}") as other:
            await one.publish(key(), ConfigDraft("0"), ABSENT)
            await asyncio.gather(*(count_up(backend, 10) for backend in (one, other)))
            assert (await value(one, key())).content == "20"

    @bounded
    async def test_one_that_is_overtaken_does_not_wait_for_ever(self, server: Service, space: str) -> None:
        async with opened(f"{server.url}/{space}") as backend:
            began = time.monotonic()
            revisions = await asyncio.gather(
                *(backend.publish(key(), ConfigDraft(str(number)), None) for number in range(10))
            )
            assert time.monotonic() - began < 5
            assert len(set(revisions)) == 10
            assert (await value(backend, key())).revision in revisions

    @bounded
    async def test_a_list_and_a_history_say_what_they_need(self, server: Service, space: str) -> None:
        async with opened(f"{server.url}/{space}") as backend:
            for call in (backend.keys("orders"), backend.history(key(), 5)):
                with pytest.raises(Denied, match=r"nacos\.core\.auth\.admin\.enabled .*: put one into the URL"):
                    await call


async def follow(backend: NacosConfig, seen: list[object]) -> None:
    async for update in backend.watch(key()):
        seen += [update.content if isinstance(update, ConfigItem) else update]


async def count_up(backend: NacosConfig, rounds: int) -> None:
    done = 0
    while done < rounds:
        present = await value(backend, key())
        with contextlib.suppress(Conflict):
            await backend.publish(key(), ConfigDraft(str(int(present.text) + 1)), present.revision)
            done += 1


class TestAccounts:
    @pytest.fixture
    def server(self, own_nacos: OwnNacos) -> Service:
        return own_nacos(password=PASSWORD)

    @pytest.fixture
    def token(self, server: Service) -> str:
        admin = Stranger(server, 3, "")
        return str(admin.call("POST", "/v3/auth/user/login", username="nacos", password=PASSWORD)["accessToken"])

    def test_a_wrong_password_is_denied_at_once_and_not_taken_for_healthy(self, server: Service) -> None:
        parts = urlsplit(server.url)
        url = parts._replace(netloc=f"nacos:wrong@{server.host}:{server.port}").geturl()
        began = time.monotonic()
        with ConfigCenter(url, options={"snapshot": "off"}) as center, pytest.raises(Denied, match="the user 'nacos'"):
            center.get(KEY)
        assert time.monotonic() - began < 3

    def test_nobody_is_denied(self, server: Service) -> None:
        url = f"nacos://{server.host}:{server.port}"
        with ConfigCenter(url, options={"snapshot": "off"}) as center:
            for verb in (lambda: center.get(KEY), lambda: center.publish(KEY, "x"), lambda: center.remove(KEY)):
                with pytest.raises(Denied):
                    verb()

    def test_a_listener_without_permission_is_not_silent(self, server: Service, space: str, token: str) -> None:
        admin, user = Stranger(server, 3, "", token), f"u{space[:8]}"
        admin.call("POST", "/v3/auth/user", username=user, password="x")
        admin.call("POST", "/v3/auth/role", role=f"r{user}", username=user)
        admin.call("POST", "/v3/auth/permission", role=f"r{user}", resource=f"{space}:*:*", action="r")
        url = f"nacos://{user}:x@{server.host}:{server.port}"

        def denied() -> bool:
            """Permissions are read by the server every fifteen seconds."""
            with ConfigCenter(f"{url}/{space}", options={"snapshot": "off"}) as center:
                try:
                    center.get(KEY)
                except Denied:
                    return True
                return False

        eventually(lambda: not denied(), 40, "the permission is there")
        with ConfigCenter(f"{url}/{space}", options={"snapshot": "off"}) as center:
            center.add_listener(KEY, lambda _: None)
            with pytest.raises(Denied):
                center.publish(KEY, "x")
        with ConfigCenter(f"{url}/elsewhere", options={"snapshot": "off"}) as center, pytest.raises(Denied):
            center.add_listener(KEY, lambda _: None)

    def test_no_secret_is_logged(self, server: Service, space: str, caplog: pytest.LogCaptureFixture) -> None:
        with (
            caplog.at_level(logging.DEBUG),
            ConfigCenter(f"{server.url}/{space}", options={"snapshot": "off"}) as center,
        ):
            center.publish(KEY, "x")
            center.get(KEY)
            session = center._opened()
            token = session.engine.backend._transport._access._token
        assert token
        said = caplog.text + repr(center) + str(vars(session.engine))
        for secret in (PASSWORD, urlsplit(server.url).password or "", token):
            assert secret not in said

    def test_a_server_with_another_token_secret_is_logged_in_to_again(self, server: Service, space: str) -> None:
        assert isinstance(server, LocalService)
        seen: list[object] = []
        with ConfigCenter(f"{server.url}/{space}", options={"snapshot": "off"}) as center:
            center.publish(KEY, "before")
            center.add_listener(KEY, lambda change: seen.append(change.item and change.item.content))
            (server.directory / "conf" / "secrets.json").unlink()
            server.restart()

            def publishes() -> bool:
                try:
                    return bool(center.publish(KEY, "after", timeout=1.0))
                except RegistryError:
                    return False

            eventually(publishes, 10, "the new secret makes no difference")
            eventually(lambda: seen == ["before", "after"], 10, "listening goes on")


class TestDefectsOfTheSdk:
    """What nacos-sdk-python 3.2.0 does wrong with configuration, each seen not to happen."""

    def test_two_raising_listeners_do_not_end_the_listening(self, center: ConfigCenter) -> None:
        calls: list[object] = []

        def raising(change: object) -> None:
            calls.append(change)
            raise ValueError("on purpose")

        seen: list[object] = []
        for _ in range(2):
            center.add_listener(KEY, raising)
        center.add_listener(KEY, lambda change: seen.append(change.item and change.item.content))
        for number in range(3):
            center.publish(KEY, str(number))
            eventually(lambda: seen[-1] == str(number) and len(calls) == 2 * (number + 2), 2, "all are told")  # noqa: B023

    def test_a_listener_may_be_removed_inside_a_listener(self, center: ConfigCenter) -> None:
        calls: list[object] = []
        places: list[Any] = []

        def leaving(change: object) -> None:
            calls.append(change)
            for place in places:
                place.close()

        places.append(center.add_listener(KEY, leaving))
        center.publish(KEY, "one")
        eventually(lambda: len(calls) == 2, 2, "it is told")
        began = time.monotonic()
        center.close()
        assert time.monotonic() - began < 2

    def test_the_first_call_does_not_wait_for_a_tick(self, center: ConfigCenter) -> None:
        center.publish(KEY, "there")
        seen: list[object] = []
        began = time.monotonic()
        center.add_listener(KEY, lambda change: seen.append(change.item.content))
        assert seen == ["there"]
        assert time.monotonic() - began < 2

    def test_the_first_call_comes_also_if_the_disk_has_the_same(self, url: str, tmp_path: Path) -> None:
        for _ in range(2):
            with ConfigCenter(url, options={"snapshot": str(tmp_path)}) as center:
                seen: list[object] = []
                center.publish(KEY, "there")
                center.add_listener(KEY, lambda change: seen.append(change.item.content))  # noqa: B023
                assert seen == ["there"]
                eventually(lambda: list(tmp_path.rglob("*.json")) or any(tmp_path.iterdir()), 5, "it is saved")

    def test_no_file_is_written_outside_its_folder(self, url: str, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "b"
        with ConfigCenter(url, options={"snapshot": str(folder)}) as center:
            center.publish("x/../../../../evil", "content")
            center.add_listener("x/../../../../evil", lambda _: None)
            eventually(lambda: any(path.is_file() for path in folder.rglob("*")), 5, "it is saved")
        assert all(folder in path.parents for path in tmp_path.rglob("*") if path.is_file())

    def test_a_long_key_in_a_long_group_is_listened_to(self, center: ConfigCenter) -> None:
        seen: list[object] = []
        center.add_listener("k" * 255, lambda change: seen.append(change.item and change.item.content), group="g" * 128)
        center.publish("k" * 255, "x", group="g" * 128)
        eventually(lambda: seen == [None, "x"], 5, "it is told")

    @pytest.mark.parametrize("path", ("", "/public"))
    def test_a_listener_in_the_public_namespace_is_told(self, service: Service, path: str, space: str) -> None:
        seen: list[object] = []
        with ConfigCenter(service.url + path, options={"snapshot": "off"}) as center:
            center.add_listener(space, lambda change: seen.append(change.item and change.item.content))
            center.publish(space, "x")
            eventually(lambda: seen == [None, "x"], 5, "it is told")
            center.remove(space)

    def test_own_writes_are_read_at_once(self, center: ConfigCenter) -> None:
        for number in range(50):
            center.publish(KEY, str(number))
            item = center.get(KEY)
            assert item is not None
            assert item.content == str(number)

    def test_a_change_is_told_within_half_a_second(self, center: ConfigCenter) -> None:
        seen: list[tuple[float, object]] = []
        center.add_listener(KEY, lambda change: seen.append((time.monotonic(), change.item and change.item.content)))
        taken = []
        for number in range(10):
            began = time.monotonic()
            center.publish(KEY, str(number))
            eventually(lambda: seen[-1][1] == str(number), 5, "it is told")  # noqa: B023
            taken.append(seen[-1][0] - began)
        assert sorted(taken)[5] < 0.5

    def test_one_slow_listener_holds_up_no_other_key(self, center: ConfigCenter) -> None:
        seen: list[object] = []
        center.publish("slow", "0")

        def slow(change: Any) -> None:
            if change.item.content == "1":
                time.sleep(3)

        center.add_listener("slow", slow)
        center.add_listener("quick", lambda change: seen.append(change.item and change.item.content))
        center.publish("slow", "1")
        began = time.monotonic()
        center.publish("quick", "x")
        eventually(lambda: seen[-1] == "x", 2, "it is told")
        assert time.monotonic() - began < 2

    @bounded
    async def test_many_keys_are_watched_over_one_connection(self, url: str) -> None:
        async with opened(url) as backend, contextlib.AsyncExitStack() as closing:
            connection = await backend._transport.connection()
            seen: dict[str, object] = {}

            async def watch(name: str) -> None:
                async for update in backend.watch(key(name)):
                    seen[name] = update

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(watch(f"k{number}")) for number in range(300)]
                closing.callback(lambda: [task.cancel() for task in tasks])
                await eventually_async(lambda: len(seen) == 300, 30, "each has its first value")
                await backend.publish(key("k299"), ConfigDraft("x"), None)
                await eventually_async(lambda: isinstance(seen["k299"], ConfigItem), 5, "it is told")
                assert await backend._transport.connection() is connection
                for task in tasks:
                    task.cancel()
            assert not len(backend._listening), "nobody listens any more"

    @bounded
    async def test_a_key_that_is_left_and_listened_to_again_at_once_is_told(self, url: str) -> None:
        async with opened(url) as backend:
            for number in range(20):
                async with contextlib.aclosing(backend.watch(key())) as updates:  # type: ignore[type-var]
                    await anext(updates)
                    if number % 2:
                        following = asyncio.ensure_future(anext(updates))
                        await backend.publish(key(), ConfigDraft(str(number)), None)
                        async with asyncio.timeout(5):
                            found = await following
                        assert isinstance(found, ConfigItem)
                        assert found.content == str(number)

    @bounded
    async def test_the_server_names_no_key_that_nobody_listens_to_any_more(self, url: str) -> None:
        async with opened(url) as backend:
            told: list[bytes] = []
            named = backend._listening.pushed
            backend._transport._pushed["ConfigChangeNotifyRequest"] = (  # type: ignore[index]
                lambda connection, body: (told.append(bytes(body)), named(connection, body))
            )
            async with contextlib.aclosing(backend.watch(key())) as updates:  # type: ignore[type-var]
                await anext(updates)
                await backend.publish(key(), ConfigDraft("0"), None)
                await anext(updates)
            await eventually_async(
                lambda: not backend._listening._left and not backend._listening._parted, 5, "it left"
            )
            assert len(told) == 1
            await backend.publish(key(), ConfigDraft("1"), None)
            await backend.publish(key("another"), ConfigDraft("1"), None)
            async with contextlib.aclosing(backend.watch(key("another"))) as updates:  # type: ignore[type-var]
                await anext(updates)
                await backend.publish(key("another"), ConfigDraft("2"), None)
                await anext(updates)
            assert all(b"another" in notice for notice in told[1:])

    def test_closing_does_not_wait_for_a_tick(self, center: ConfigCenter) -> None:
        center.add_listener(KEY, lambda _: None)
        began = time.monotonic()
        center.close()
        assert time.monotonic() - began < 1

    @bounded
    async def test_a_server_that_is_away_is_unavailable_and_not_a_value(self, service: Service, space: str) -> None:
        with service.proxy() as proxy:
            async with opened(f"{service.url_through(proxy)}/{space}", call_timeout=0.5) as backend:
                await backend.publish(key(), ConfigDraft("x"), None)
                proxy.black_hole()
                with pytest.raises(DeadlineExceeded):
                    await backend.get(key())
                with pytest.raises(Unavailable):
                    await backend.renew()
                proxy.refuse()
                with pytest.raises(Unavailable):
                    await backend.get(key())
                proxy.pass_through()
                await eventually_async(lambda: reads(backend), 5, "it reads again")

    @bounded
    async def test_two_in_one_process_know_nothing_of_each_other(self, url: str, service: Service) -> None:
        async with opened(url) as one, opened(f"{service.url}/{uuid.uuid4().hex}") as other:
            await one.publish(key(), ConfigDraft("one"), None)
            assert await other.get(key()) is ABSENT
            await one.close()
            await other.publish(key(), ConfigDraft("other"), None)
            assert (await value(other, key())).content == "other"


async def reads(backend: NacosConfig) -> bool:
    try:
        return isinstance(await backend.get(key()), ConfigItem)
    except RegistryError:
        return False


@bounded
async def test_each_line_is_read_from_its_database(url: str, line: int) -> None:
    async with opened(url) as backend:
        assert isinstance(backend._line, FromDatabase)
        assert backend._line.number == line
