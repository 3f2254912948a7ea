"""Values in Nacos: other clients', conditions, what is none, names, the server's own copy."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacos_center import KEY, Stranger, bounded, center, key, line, opened, service, space, url, value

from sofa_registry_adapters import ABSENT, ConfigCenter, ConfigItem
from sofa_registry_adapters.backends.nacos.config import NacosConfig
from sofa_registry_adapters.backends.nacos.config_lines import FromCopy, FromDatabase
from sofa_registry_adapters.backends.nacos.names import config_key, config_name
from sofa_registry_adapters.errors import Conflict, Denied, InvalidArgument, InvalidName
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.testing.faults import eventually, eventually_async
from sofa_registry_adapters.testing.plugin import OwnNacos
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["center", "line", "service", "space", "url"]

pytestmark = pytest.mark.timeout(300)


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


@bounded
async def test_each_line_is_read_from_its_database(url: str, line: int) -> None:
    async with opened(url) as backend:
        assert isinstance(backend._line, FromDatabase)
        assert backend._line.number == line
