"""etcd3's messages beside any protobuf, grpc beside forks, and what an environment may lack."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from sofa_registry_adapters.testing.services import Service

OPEN = """
import os, sys, signal, time, gc, threading
from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import Closed, ForkUnsupported, RegistryError
url = sys.argv[1]

def fork(work):
    '''Run the work in a child; its exit code is 0 if all was well.'''
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
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"
"""


def run(code: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRPC_", "PROTOCOL_BUFFERS"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**kept, **(env or {})},
    )


def good(code: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    done = run(code, *arguments, env=env)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.strip() == "good", done.stdout
    assert done.stderr == ""


USE = """
from sofa_registry_adapters import Registry
with Registry(sys.argv[1]) as registry:
    registry.publish("a", "h:1")
    assert [one.address for one in registry.lookup("a")] == ["h:1"]
"""


@pytest.fixture
def url(etcd_service: Service) -> str:
    return f"{etcd_service.url}/messages?namespace={uuid.uuid4().hex}&snapshot=off&leaving=0"


def test_etcd3_can_be_imported_once_the_backend_is_in_use(url: str) -> None:
    good(
        f"""
        import sys
        {textwrap.indent(USE, "        ").strip()}
        assert "etcd3" not in sys.modules
        import etcd3
        from etcd3.etcdrpc import kv_pb2, rpc_pb2
        from google.protobuf import descriptor_pb2, descriptor_pool
        host, _, port = sys.argv[1].partition("://")[2].partition("/")[0].partition(":")
        client = etcd3.client(host=host, port=int(port), timeout=5)
        client.put(sys.argv[1], "1")
        assert client.get(sys.argv[1])[0] == b"1"
        client.close()
        # Others have a kv.proto as well, and register it for the whole process.
        other = descriptor_pb2.FileDescriptorProto(name="kv.proto", package="other")
        descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
        print("good")
        """,
        url,
    )


def test_a_failed_import_of_etcd3_is_not_in_the_way(url: str) -> None:
    good(
        f"""
        import sys
        try:
            import etcd3
        except TypeError:
            pass
        {textwrap.indent(USE, "        ").strip()}
        print("good")
        """,
        url,
    )


def test_an_etcd3_that_was_imported_first_is_kept(url: str) -> None:
    good(
        f"""
        import sys
        import etcd3
        before = sys.modules["etcd3.etcdrpc.rpc_pb2"]
        {textwrap.indent(USE, "        ").strip()}
        assert sys.modules["etcd3.etcdrpc.rpc_pb2"] is before
        print("good")
        """,
        url,
        env={"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
    )


def test_all_clients_side_by_side(url: str) -> None:
    good(
        f"""
        import sys
        import kazoo.client, redis
        {textwrap.indent(USE, "        ").strip()}
        import etcd3, grpc
        print("good")
        """,
        url,
    )


@pytest.mark.parametrize("missing", ("etcd3", "grpc"))
def test_a_missing_library_is_named_with_the_command(missing: str) -> None:
    done = run(
        f"""
        import sys
        sys.modules[{missing!r}] = None
        import importlib.machinery
        find = importlib.machinery.PathFinder.find_spec
        importlib.machinery.PathFinder.find_spec = (
            lambda name, *more: None if name == {missing!r} else find(name, *more)
        )
        from sofa_registry_adapters import Registry
        Registry("etcd://127.0.0.1:1").open()
        """
    )
    assert "MissingDependency" in done.stderr
    assert f"{missing!r}, which is not installed: pip install 'sofa-registry-adapters[etcd]'" in done.stderr


def test_another_package_with_the_module_etcd3_is_named(tmp_path: Path) -> None:
    (tmp_path / "etcd3").mkdir()
    (tmp_path / "etcd3" / "__init__.py").write_text("Client = object\n")
    done = run(
        """
        from sofa_registry_adapters import Registry
        Registry("etcd://127.0.0.1:1").open()
        """,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert "MissingDependency" in done.stderr
    assert "etcd3-py" in done.stderr


def test_a_child_of_a_connected_process_is_refused_by_every_verb(url: str) -> None:
    good(
        OPEN
        + """
registry = Registry(url).open()
registration = registry.publish("a", "h:1")
watch = registry.watch("a")

def refused(verb):
    began = time.monotonic()
    try:
        verb()
    except ForkUnsupported as error:
        assert "spawn" in str(error) and "after the fork" in str(error)
    else:
        raise AssertionError(verb)
    assert time.monotonic() - began < 0.5

def child():
    for _ in range(2):
        refused(lambda: registry.lookup("a"))
        refused(lambda: registry.publish("a", "h:2"))
        refused(lambda: registry.subscribe("a", print))
        refused(registry.services)
        refused(Registry(url).open)
    for verb in (registration.unpublish, registration.wait_live, lambda: watch.next(timeout=1)):
        try:
            verb()
        except Closed:
            continue
        raise AssertionError(verb)
    registry.close()
    with Registry(f"memory://{os.getpid()}") as other:
        other.publish("a", "h:3")

fork(child)
assert registry.lookup("a")[0].address == "h:1" and registration.state == "live"
registry.close()
print("good")
""",
        url,
    )


def test_a_process_that_closed_its_registry_has_children_that_connect(url: str) -> None:
    good(
        OPEN
        + """
gc.disable()  # nothing is left for it to do
for _ in range(5):
    with Registry(url) as registry:
        registry.publish("a", "h:1")
        registry.subscribe("a", lambda change: None)

    def child():
        with Registry(url) as registry:
            registry.publish("a", "h:2")
            assert [one.address for one in registry.lookup("a")] == ["h:2"]

    fork(child)
print("good")
""",
        url,
    )


def test_children_of_a_connected_process_do_not_crash(url: str) -> None:
    good(
        OPEN
        + """
with Registry(url) as registry:
    registration = registry.publish("a", "h:1")
    registry.subscribe("a", lambda change: None)
    for number in range(25):
        registration.update(weight=number + 1)
        fork(lambda: (time.sleep(0.03), gc.collect()))
    assert registry.lookup("a")[0].weight == 25
assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ
print("good")
""",
        url,
    )
