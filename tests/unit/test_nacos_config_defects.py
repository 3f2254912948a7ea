"""What nacos-sdk-python gets wrong with configuration, seen to be right here."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from nacos_center import KEY, bounded, center, key, line, opened, service, space, url, value

from sofa_registry_adapters import ABSENT, ConfigCenter, ConfigItem
from sofa_registry_adapters.backends.nacos.config import NacosConfig
from sofa_registry_adapters.errors import DeadlineExceeded, RegistryError, Unavailable
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.testing.faults import eventually, eventually_async
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["center", "line", "service", "space", "url"]

pytestmark = pytest.mark.timeout(300)


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
