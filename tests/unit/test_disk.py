"""Snapshots on disk: the old one or the new one, whole; nobody else's; and a disk that fails harms nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import msgspec
import pytest

from sofa_registry_adapters import ConfigCenter, Instance, InstancesChange, Registry, ServiceKey
from sofa_registry_adapters.backends.memory import space
from sofa_registry_adapters.engine.disk import VERSION, Disk, default_folder
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.events import SnapshotFailed
from sofa_registry_adapters.model.instance import Extra, Metadata
from sofa_registry_adapters.testing.faults import eventually

SERVICE = ServiceKey("com.acme.Hello", "1.0")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


def fleet(count: int, zone: str = "") -> list[Instance]:
    return [Instance.of(f"h:{port + 1}", zone=zone) for port in range(count)]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "snapshots", "redis://h")


def only_file(disk: Disk) -> Path:
    (path,) = disk._folder.iterdir()
    return path


def test_what_is_saved_is_loaded(disk: Disk) -> None:
    instances = [
        Instance.of("h:1", metadata={"a": "b"}, zone="z", weight=0, enabled=False, protocol="p"),
        msgspec.structs.replace(Instance.of("[::1]:2"), started=5, owner="o", extra=Extra({"x": [1, {"y": None}]})),
    ]
    disk.save(SERVICE, instances, 1234)
    saved = disk.load(SERVICE)
    assert saved is not None
    assert saved.instances == instances
    assert (saved.saved, saved.service, saved.v) == (1234, str(SERVICE), VERSION)
    assert isinstance(saved.instances[0].metadata, Metadata)
    assert isinstance(saved.instances[1].extra, Extra)


def test_what_was_never_saved_is_none(disk: Disk) -> None:
    assert disk.load(SERVICE) is None
    disk.save(ServiceKey("other"), [], 1)
    assert disk.load(SERVICE) is None


def test_the_newest_is_kept_and_nothing_else(disk: Disk) -> None:
    for count in (3, 0, 5):
        disk.save(SERVICE, fleet(count), 1)
        saved = disk.load(SERVICE)
        assert saved is not None
        assert len(saved.instances) == count
    assert len(list(disk._folder.iterdir())) == 1


@pytest.mark.parametrize("name", ("../../etc/passwd", "..", "a/b", "x" * 255, "\u202e", "a:b"))
def test_any_name_stays_in_the_folder(disk: Disk, name: str, tmp_path: Path) -> None:
    disk.save(ServiceKey(name), fleet(1), 1)
    assert disk.load(ServiceKey(name)) is not None
    assert [path.parent for path in tmp_path.rglob("*.json")] == [disk._folder]


def test_services_and_registries_do_not_mix(tmp_path: Path) -> None:
    one, other = Disk(tmp_path, "redis://a"), Disk(tmp_path, "redis://b")
    one.save(SERVICE, fleet(1), 1)
    assert other.load(SERVICE) is None
    assert one.load(ServiceKey("com.acme.Hello:1.0")) is None


def test_only_the_user_may_look(disk: Disk) -> None:
    old = os.umask(0)
    try:
        disk.save(SERVICE, fleet(1), 1)
    finally:
        os.umask(old)
    assert disk._folder.stat().st_mode & 0o777 == 0o700
    assert only_file(disk).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_open_to_others_is_closed(disk: Disk) -> None:
    disk._folder.mkdir(mode=0o777)
    disk._folder.chmod(0o777)
    disk.save(SERVICE, fleet(1), 1)
    assert disk._folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "damage",
    (
        lambda _: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:64],
        lambda raw: raw + b" ",
        lambda raw: raw.replace(b'"h"', b'"g"'),
        lambda raw: b"0" * 64 + raw[64:],
        lambda raw: b"\x00" * len(raw),
        lambda raw: raw[65:],
    ),
)
def test_a_damaged_one_is_told(disk: Disk, damage: object) -> None:
    disk.save(SERVICE, fleet(2), 1)
    path = only_file(disk)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match="damaged"):
        disk.load(SERVICE)
    disk.save(SERVICE, fleet(2), 1)
    assert disk.load(SERVICE) is not None


@pytest.mark.parametrize(
    "body",
    (
        b'{"v":2,"service":"com.acme.Hello:1.0","saved":1,"instances":[]}',
        b'{"v":1,"service":"other","saved":1,"instances":[]}',
        b'{"v":2,"instances":{"a":"of another shape"}}',
        b'{"v":1,"service":"com.acme.Hello:1.0","saved":1,"instances":[{"host":"h","port":1,"metadata":"text"}]}',
        b"[]",
        b"",
    ),
)
def test_another_version_is_told(disk: Disk, body: bytes) -> None:
    disk.save(SERVICE, [], 1)
    only_file(disk).write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    with pytest.raises(ValueError):  # noqa: PT011  each of them is one
        disk.load(SERVICE)


def test_a_symbolic_link_is_not_followed(disk: Disk, tmp_path: Path) -> None:
    disk.save(SERVICE, fleet(1), 1)
    path = only_file(disk)
    target = tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        disk.load(SERVICE)
    before = target.read_bytes()
    disk.save(SERVICE, fleet(3), 2)
    assert target.read_bytes() == before
    assert not path.is_symlink()


def test_a_folder_that_is_a_link_is_refused(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    disk._folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(PermissionError):
        disk.save(SERVICE, fleet(1), 1)
    assert not list((tmp_path / "theirs").iterdir())


@root_only
def test_a_foreign_file_is_not_read(disk: Disk) -> None:
    disk.save(SERVICE, fleet(1), 1)
    os.chown(only_file(disk), 65534, 65534)
    with pytest.raises(PermissionError, match="another user"):
        disk.load(SERVICE)


@root_only
def test_a_foreign_folder_is_not_used(disk: Disk) -> None:
    disk.save(SERVICE, fleet(1), 1)
    os.chown(disk._folder, 65534, 65534)
    with pytest.raises(PermissionError, match="another user"):
        disk.save(SERVICE, fleet(2), 1)


def test_a_pipe_in_the_place_of_a_file_does_not_stop_a_reader(disk: Disk) -> None:
    disk.save(SERVICE, fleet(1), 1)
    path = only_file(disk)
    path.unlink()
    os.mkfifo(path)
    answers: list[object] = []

    def load() -> None:
        try:
            answers.append(disk.load(SERVICE))
        except (OSError, ValueError) as error:
            answers.append(error)

    reading = threading.Thread(target=load, daemon=True)
    reading.start()
    reading.join(2)
    hung = reading.is_alive()
    if hung:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        reading.join(5)
    assert not hung
    assert isinstance(answers[0], OSError | ValueError)


def test_a_full_disk_leaves_the_old_one(disk: Disk) -> None:
    disk.save(SERVICE, fleet(1), 1)
    before = only_file(disk).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            disk.save(SERVICE, fleet(500), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert only_file(disk).read_bytes() == before


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Disk(tmp_path / "file" / "x", "r").save(SERVICE, [], 1)


WRITER = """
import sys
from pathlib import Path
from sofa_registry_adapters import ConfigCenter, Instance, InstancesChange, Registry, ServiceKey
from sofa_registry_adapters.backends.memory import space
from sofa_registry_adapters.engine.disk import Disk
disk = Disk(Path(sys.argv[1]), "redis://h")
fleets = [[Instance.of(f"h:{port + 1}", zone=zone) for port in range(400)] for zone in "ab"]
while True:
    for number, fleet in enumerate(fleets):
        disk.save(ServiceKey("com.acme.Hello", "1.0"), fleet, number + 1)
        print(".", end="", flush=True)
"""
FORKED = """
import os, signal, sys, time
exec(sys.argv[2].split("while True:")[0])
service = ServiceKey("com.acme.Hello", "1.0")
disk.save(service, fleets[0], 1)
for attempt in range(50):
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        while True:
            for number, fleet in enumerate(fleets):
                disk.save(service, fleet, number + 1)
                os.write(told, b".")
    os.read(ready, 1)
    time.sleep(attempt * 0.0003)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saved = disk.load(service)
    assert saved is not None and len(saved.instances) == 400
    assert {one.zone for one in saved.instances} == {"ab"[saved.saved - 1]}
    os.close(ready); os.close(told)
print("whole", len(list(Path(sys.argv[1]).glob(".new-*"))))
"""


def test_a_writer_that_is_killed_leaves_the_old_one_or_the_new_one(disk: Disk) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", FORKED, str(disk._folder), WRITER],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("whole")


def test_what_killed_writers_left_is_cleaned_up(disk: Disk) -> None:
    disk._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    left, fresh = disk._folder / ".new-left", disk._folder / ".new-fresh"
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    old = time.time() - 7 * 86400
    os.utime(left, (old, old))
    disk.save(SERVICE, fleet(1), 1)
    assert not left.exists(), "what is a week old is nobody's any more"
    assert fresh.exists(), "another process may be writing it"


def test_the_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_folder() == tmp_path / "sofa-registry"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert default_folder() == Path("/home/x/.cache/sofa-registry")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_folder() == Path("/home/x/Library/Caches/sofa-registry")


class TestSnapshots:
    """The disk behind a Registry."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"memory://{uuid.uuid4().hex}?leaving=0&snapshot={tmp_path}/snapshots"

    @staticmethod
    def cut(url: str) -> None:
        space(url.removeprefix("memory://").partition("?")[0]).partition()

    @staticmethod
    def live(url: str, tmp_path: Path) -> None:
        """A life that ends with a snapshot of one instance of `a`, its publisher still there."""
        with Registry(url) as consumer:
            consumer.subscribe("a", lambda _: None)
            eventually(lambda: len(list((tmp_path / "snapshots").glob("*.json"))) == 1)

    def test_a_start_without_the_registry_begins_with_the_last_known_good(self, url: str, tmp_path: Path) -> None:
        with Registry(url.partition("?")[0]) as provider:
            provider.publish("a", "h:1")
            self.live(url, tmp_path)
            self.cut(url)
            with Registry(url) as consumer:
                view = consumer.lookup("a", timeout=0.3)
                assert ([one.instance_id for one in view], view.stale) == (["h:1"], True)
                seen: list[InstancesChange] = []
                consumer.subscribe("a", seen.append, timeout=1)
                assert [change.stale for change in seen] == [True]
                assert 0 <= seen[0].instances.age < 30
                with pytest.raises(Unavailable):
                    consumer.lookup("never-seen", timeout=0.2)
                space(url.removeprefix("memory://").partition("?")[0]).heal()
                eventually(lambda: not consumer.lookup("a").stale)

    def test_of_two_values_read_at_once_the_later_one_is_saved(self, url: str, tmp_path: Path) -> None:
        with ConfigCenter(url) as config:
            config.publish("k", "v1")
            config.get("k")
            config.publish("k", "v2")
            config.get("k")
        self.cut(url)
        with ConfigCenter(url) as config:
            found = config.get("k", timeout=0.3)
            assert found is not None
            assert (found.content, found.stale) == ("v2", True)

    def test_a_damaged_one_is_told_and_counts_as_none(self, url: str, tmp_path: Path) -> None:
        with Registry(url.partition("?")[0]) as provider:
            provider.publish("a", "h:1")
            self.live(url, tmp_path)
            self.cut(url)
            for path in (tmp_path / "snapshots").glob("*.json"):
                path.write_bytes(b"damaged")
            failures: list[SnapshotFailed] = []
            with Registry(url) as consumer:
                consumer.events.on(SnapshotFailed, failures.append)
                with pytest.raises(Unavailable):
                    consumer.lookup("a", timeout=0.2)
                eventually(lambda: failures)
                assert "damaged" in failures[0].reason

    def test_a_disk_that_fails_costs_an_event_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        failures: list[SnapshotFailed] = []
        with Registry(f"memory://{uuid.uuid4().hex}?leaving=0&snapshot={tmp_path}/file/x") as registry:
            registry.events.on(SnapshotFailed, failures.append)
            registry.publish("a", "h:1")
            seen: list[int] = []
            registry.subscribe("a", lambda change: seen.append(len(change.instances)))
            eventually(lambda: failures)
            registry.publish("a", "h:2")
            eventually(lambda: seen[-1] == 2)
            assert failures[0].service == ServiceKey("a")

    def test_a_disk_that_hangs_does_not_keep_a_subscriber_from_the_registry(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = threading.Event()
        monkeypatch.setattr(Disk, "load", lambda *_: gate.wait(10) and None)
        self.cut(url)
        with Registry(url) as consumer:
            seen: list[InstancesChange] = []
            consumer.subscribe("a", seen.append, required=False, timeout=0.5)
            space(url.removeprefix("memory://").partition("?")[0]).heal()
            try:
                eventually(lambda: seen and not seen[-1].stale, 2)
            finally:
                gate.set()
