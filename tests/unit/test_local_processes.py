"""The local store and its processes: those that are killed, hang, are stopped, race and idle."""

from __future__ import annotations

import asyncio
import contextlib
import time

from local_folder import Folder, folder, following, key, lock_files, names, put, record, run, show

from sofa_registry_adapters.backends.local.owners import Owner, Vigil
from sofa_registry_adapters.backends.local.process import here
from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.errors import Conflict, RegistryError
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.faults import eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["folder"]


def test_a_killed_process_is_noticed_at_once(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("permanent", owned=False))
        figures = []
        async with following(store) as follower:
            for _ in range(3):
                with folder.publisher("a", "b") as child:
                    await follower.shows({"a", "b", "permanent"})
                    child.kill()
                    begun = time.monotonic()
                    await follower.shows({"permanent"}, 3.0)
                    figures.append(time.monotonic() - begun)
        show(f"kill -9 noticed after {[round(1000 * figure) for figure in figures]} ms")

    run(main, folder)


def test_a_killed_process_is_noticed_by_one_that_watches_nothing(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        await put(store, record("own"))
        with folder.publisher("a") as child:
            child.kill()

        async def alone() -> bool:
            return await names(store) == {"own"}

        await eventually_async(alone, 3.0, "the dead one's records go")

    run(main, folder)


def test_what_the_dead_left_is_gone_when_a_store_opens(folder: Folder) -> None:
    with folder.publisher("a") as child:
        child.kill()

    async def main(folder: Folder) -> None:
        store = await folder.open()
        assert await names(store) == set()
        assert [path.name for path in lock_files(folder)] == [store._opening.session._owner]  # type: ignore[union-attr]

    run(main, folder)


def test_a_dead_owner_is_no_conflict(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open()
        with folder.publisher("a", "b") as child:
            assert isinstance((await store.put([record("a")]))[key("a")], Conflict)
            child.kill()
            await put(store, record("a"))
        revision = await store.compare_and_put(record("b"), None)
        assert revision

    run(main, folder)


def test_a_hung_process_is_noticed_by_its_lease_and_comes_back(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = await folder.open("?lease=1s")
        renewing = asyncio.create_task(_renew(store))
        async with following(store) as follower:
            with folder.publisher("a", "b", options="?lease=1s") as child:
                await follower.shows({"a", "b"})
                child.stop()
                begun = time.monotonic()
                await follower.shows(set(), 5.0)
                show(f"SIGSTOP noticed after {time.monotonic() - begun:.2f} s with a lease of 1 s")
                assert time.monotonic() - begun > 0.3
                child.cont()
                begun = time.monotonic()
                child.expect("again a b")
                await follower.shows({"a", "b"}, 3.0)
                show(f"back {time.monotonic() - begun:.2f} s after SIGCONT")
        renewing.cancel()

    run(main, folder)


def test_a_live_process_is_not_expelled_by_one_that_was_stopped(folder: Folder) -> None:
    clock = ManualClock()

    async def main(folder: Folder) -> None:
        vigil = Vigil(clock, 10.0, here())
        sleeper = Owner("x", vigil.boot, vigil.expiry())
        clock.advance(60)
        vigil.touch()
        assert not vigil.is_over(sleeper)
        for _ in range(2):
            clock.advance(3)
            vigil.touch()
        assert vigil.is_over(sleeper)
        assert vigil.is_over(Owner("x", "another boot", vigil.expiry()))

    run(main, folder)


def test_two_processes_write_at_once(folder: Folder) -> None:
    body = """
        async def main():
            store = new_store()
            await store.open()
            for number in range(200):
                await store.put(publish(f"WHICH-{number}"))
            print("done", flush=True)
            await renewing(store, ())

        asyncio.run(main())
    """

    async def main(folder: Folder) -> None:
        store = await folder.open()
        async with following(store) as follower:
            with folder.child(body.replace("WHICH", "one")) as one, folder.child(body.replace("WHICH", "two")) as two:
                await asyncio.to_thread(one.expect, "done")
                await asyncio.to_thread(two.expect, "done")
                everything = {f"{which}-{number}" for which in ("one", "two") for number in range(200)}
                await follower.shows(everything)
                assert await names(store) == everything

    run(main, folder)


def test_another_process_sees_a_change_within_100_ms(folder: Folder) -> None:
    body = """
        async def main():
            store = new_store()
            await store.open()
            for number in range(20):
                await asyncio.sleep(0.037)
                print(f"put {number} {time.monotonic()}", flush=True)
                await store.put(publish(f"{number}"))
            await renewing(store, ())

        asyncio.run(main())
    """

    async def main(folder: Folder) -> None:
        store = await folder.open()
        async with following(store) as follower:
            with folder.child(body) as child:
                await follower.shows({f"{number}" for number in range(20)}, 10.0)
                lines = [line.split() for line in child.output.splitlines() if line.startswith("put ")]
        late = sorted(follower.seen[name] - float(when) for _, name, when in lines)
        show(f"seen by another process: median {1000 * late[10]:.1f} ms, worst {1000 * late[-1]:.1f} ms")
        assert late[0] < 0.1

    run(main, folder)


def test_a_process_that_only_watches_idles(folder: Folder) -> None:
    body = """
        async def main():
            store = new_store()
            await store.open()
            await store.put(publish("a"))
            watches = [store.watch(Bucket(("services", f"s{number}"))) for number in range(50)]
            for watch in watches:
                await anext(watch)
            begun = time.process_time()
            for _ in range(4):
                await asyncio.sleep(1)
                await store.renew()
            print(f"idle {(time.process_time() - begun) / 4:.5f}", flush=True)
            for watch in watches:
                await watch.aclose()
            await store.close()

        asyncio.run(main())
    """
    with folder.publisher("b"), folder.child(body) as child:
        share = float(child.expect("idle").split()[1])
    show(f"idle: {100 * share:.2f} % of a core")
    assert share < 0.05


async def _renew(store: LocalStore) -> None:
    while True:
        with contextlib.suppress(RegistryError):
            await store.renew()
        await asyncio.sleep(0.1)
