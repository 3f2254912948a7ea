"""A fork: what a child does with what it inherited never touches the parent's registration."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PREAMBLE = """
import faulthandler, gc, os, signal, sys, threading, time, warnings
faulthandler.enable()
faulthandler.register(signal.SIGALRM)  # a child that hangs says where
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
from sofa_registry_adapters import Registry, AsyncRegistry
from sofa_registry_adapters.errors import Closed, RegistryError
url = sys.argv[1]

def fork(work):
    '''Run `work` in a child, to its end; its exit code is 0 if all was well.'''
    sys.stdout.flush()
    child = os.fork()
    if not child:
        signal.alarm(8)
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush(); sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + 12
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"the child ended with {status}"
            return
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            raise SystemExit("the child hangs")
        time.sleep(0.01)

def ids(registry, service="a"):
    return sorted(one.instance_id for one in registry.lookup(service))

def shows(registry, *expected):
    # The children's last changes come as those of any other process.
    deadline = time.monotonic() + 2
    while ids(registry) != list(expected) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ids(registry) == list(expected)

def closed(verb):
    try:
        verb()
    except Closed:
        return
    raise AssertionError(f"{verb} did not raise Closed")
"""


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}?leaving=20ms"
    return f"local://{tmp_path}/registry.db?lease=2s&snapshot=off&leaving=20ms"


def run(url: str, code: str, *, quiet: bool = True) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), url],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr + answer.stdout
    assert answer.stdout.strip() == "good", answer.stdout
    assert answer.stderr == "" or not quiet


ENDS = (
    "pass",
    "registry.close()",
    "registry.__exit__(None, None, None)",
    "registration.__exit__(None, None, None)",
    "subscription.close(); watch.close()",
    "del registry, registration, subscription, watch; gc.collect()",
    "closed(registration.unpublish); closed(registration.wait_live); closed(lambda: registration.update(weight=1))",
    "closed(lambda: watch.next(timeout=1)); closed(lambda: next(iter(watch)))",
    "assert registration.state == 'live'; assert view[0].instance_id == 'h:1'; repr(registration); repr(registry)",
    "sys.exit()",
)


def test_a_child_that_ends_leaves_the_parents_registration_alive(url: str) -> None:
    run(
        url,
        f"""
        registry = Registry(url).open()
        registration = registry.publish("a", "h:1")
        subscription = registry.subscribe("a", lambda change: None)
        watch = registry.watch("a")
        view = registry.lookup("a")

        def child():
            try:
                exec(end, globals())
            except SystemExit:
                pass
            gc.collect()

        for end in {ENDS!r}:
            print(end, file=sys.stderr)
            fork(child)
            with Registry(url) as observer:
                assert ids(observer) == ["h:1"]
        registration.update(weight=7)
        assert registration.state == "live"
        assert watch.next(timeout=5).instances
        registry.close()
        print("good")
        """,
        quiet=False,
    )


def test_a_child_ends_by_itself_with_all_its_handlers(url: str) -> None:
    """No `os._exit`: atexit handlers and finalisers run in the child."""
    run(
        url,
        """
        registry = Registry(url).open()
        registration = registry.publish("a", "h:1")
        child = os.fork()
        if not child:
            signal.alarm(8)
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        with Registry(url) as observer:
            assert ids(observer) == ["h:1"]
        registry.close()
        print("good")
        """,
    )


def test_a_child_that_publishes_has_its_own(url: str) -> None:
    run(
        url,
        """
        registry = Registry(url).open()
        registration = registry.publish("a", "h:1")
        seen = []
        subscription = registry.subscribe("a", lambda change: seen.append(len(change.instances)))

        def child():
            own = registry.publish("a", "h:2")
            assert own.state == "live"
            assert "h:2" in ids(registry)
            assert registration.state == "live"
            closed(registration.unpublish)
            with registry.watch("a") as watch:
                assert watch.next(timeout=5).instances
            assert threading.active_count() >= 2
            own.unpublish()
            registry.close()
            closed(lambda: registry.lookup("a"))

        for _ in range(2):
            fork(child)
        shows(registry, "h:1")
        registration.update(weight=3)
        registry.close()
        print("good")
        """,
    )


def test_a_child_of_a_child_has_its_own(url: str) -> None:
    run(
        url,
        """
        registry = Registry(url).open()
        registry.publish("a", "h:1")

        def grandchild():
            registry.publish("a", "h:3")
            registry.close()

        def child():
            registry.publish("a", "h:2")
            fork(grandchild)
            assert "h:2" in ids(registry)
            registry.close()

        fork(child)
        shows(registry, "h:1")
        registry.close()
        print("good")
        """,
    )


def test_a_registry_that_was_closed_before_stays_closed_in_the_child(url: str) -> None:
    run(
        url,
        """
        registry = Registry(url).open()
        registry.close()
        fork(lambda: closed(lambda: registry.lookup("a")))
        print("good")
        """,
    )


def test_a_registry_that_was_never_opened_opens_in_the_child(url: str) -> None:
    run(
        url,
        """
        registry = Registry(url)
        def child():
            assert registry.publish("a", "h:1").state == "live"
            registry.close()
        fork(child)
        with registry:
            assert registry.publish("a", "h:2").state == "live"
        print("good")
        """,
    )


def test_an_async_registry_in_a_child(url: str) -> None:
    run(
        url,
        """
        import asyncio

        async def parent():
            async with AsyncRegistry(url) as registry:
                registration = await registry.publish("a", "h:1")
                watch = await registry.watch("a")
                await watch.next()
                inherited.extend((registry, registration, watch))
                await asyncio.to_thread(fork, child)
                assert sorted(one.instance_id for one in await registry.lookup("a")) == ["h:1"]
                assert registration.state == "live"

        def child():
            registry, registration, watch = inherited

            async def work():
                for verb in (registration.unpublish, registration.wait_live, watch.next):
                    try:
                        async with asyncio.timeout(3):
                            await verb()
                    except Closed:
                        continue
                    raise AssertionError(verb)
                await registry.publish("a", "h:2")
                await registry.aclose()

            asyncio.run(work())

        inherited = []
        asyncio.run(parent())
        print("good")
        """,
    )


def test_forks_in_the_midst_of_changes_never_hang(url: str) -> None:
    """A lock may be held by another thread in the moment of the fork."""
    run(
        url,
        """
        registry = Registry(url).open()
        registration = registry.publish("a", "h:1")
        registry.subscribe("a", lambda change: None)
        stop = threading.Event()

        def churn():
            weight = 1
            while not stop.is_set():
                weight += 1
                registration.update(weight=weight)

        thread = threading.Thread(target=churn, daemon=True)
        thread.start()

        def child():
            assert "h:1" in [one.instance_id for one in registry.lookup("a")] or url.startswith("memory")
            registry.close()

        for _ in range(8):
            fork(child)
        stop.set()
        thread.join(5)
        with Registry(url) as observer:
            assert ids(observer) == ["h:1"]
        registry.close()
        print("good")
        """,
    )
