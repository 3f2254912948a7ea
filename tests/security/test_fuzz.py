"""What others may have written, decoded: nothing but the errors that are promised, in bounded time and memory.

``python tests/security/test_fuzz.py --seconds 600`` runs each target that long and prints executions and escapes; `tox -e fuzz` does that guided by
coverage, with `guided.py`.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import random
import shutil
import struct
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_registry_adapters import Instance, ServiceKey
from sofa_registry_adapters.backends.nacos import instances as nacos_instances
from sofa_registry_adapters.backends.nacos import names as nacos_names
from sofa_registry_adapters.backends.nacos import wire as nacos
from sofa_registry_adapters.backends.redis import wire as redis
from sofa_registry_adapters.backends.zookeeper import wire as zookeeper
from sofa_registry_adapters.engine.config_disk import ConfigDisk
from sofa_registry_adapters.engine.disk import Disk
from sofa_registry_adapters.engine.envelope import Envelope
from sofa_registry_adapters.engine.plugins import BACKENDS, Plugins
from sofa_registry_adapters.errors import CorruptRecord, InvalidArgument, InvalidURL, RegistryError
from sofa_registry_adapters.layouts.native import decode_instance, encode_instance
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.named import read_file
from sofa_registry_adapters.references import Place, fill_url
from sofa_registry_adapters.settings import parse_target, redacted
from sofa_registry_adapters.spi.config import ConfigDraft

SECONDS = 1.0
"""For one input of some kilobytes; a thousandth is usual."""
MEGABYTES = 32
FOLDER = Path(tempfile.mkdtemp(prefix="sofa-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
DISK, CONFIG_DISK = Disk(FOLDER, "fuzz"), ConfigDisk(FOLDER, "fuzz")
SERVICE, KEY = ServiceKey("fuzz"), ConfigKey("fuzz")


def on_disk(path: Path, load: Callable[[], object], data: bytes) -> None:
    """The file as it is, and with a checksum that fits."""
    for content in (data, hashlib.sha256(data).hexdigest().encode() + b"\n" + data):
        path.write_bytes(content)
        # What `engine.snapshots` takes for damage.
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            load()


def services_on_disk(data: bytes) -> None:
    on_disk(DISK._path(str(SERVICE)), lambda: DISK.load(SERVICE), data)


def values_on_disk(data: bytes) -> None:
    on_disk(CONFIG_DISK._path(f"config\n{KEY.group}\n{KEY.key}"), lambda: CONFIG_DISK.load(KEY), data)


def redis_words(data: bytes) -> None:
    redis.stored(("services",), data[:10], data, "me")
    redis.owner_of(data)
    with contextlib.suppress(redis.Malformed):
        redis.parse_message(data)
    with contextlib.suppress(redis.Malformed):
        redis.parse_log([(data[:3], data.split(b" "))])


def zookeeper_words(data: bytes) -> None:
    # Whatever it raises ends the connection, as damage on the way does; it must end.
    for read in (lambda: zookeeper.Transaction([]).replies(data, 0), lambda: zookeeper.read_event(data, 0)):
        with contextlib.suppress(struct.error, KeyError, UnicodeDecodeError):
            read()


def nacos_words(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        nacos.decode(data)
    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        nacos_instances.listed(data)
    text = data.decode("utf-8", "replace")
    nacos_names.service_key(text)
    nacos_names.config_key(text)


def urls(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    redacted(text)
    found = Plugins(())
    for scheme in BACKENDS:
        for url in (text, f"{scheme}://{text}"):
            with contextlib.suppress(RegistryError):
                repr(parse_target(url, found.backend(scheme)))
    with contextlib.suppress(InvalidURL):
        fill_url(text, Place("the test"))


def settings_file(data: bytes) -> None:
    path = FOLDER / "sofa-registry.toml"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(InvalidURL):
        patch.setenv("SOFA_REGISTRY_FILE", str(path))
        read_file()


def names(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for read in (ServiceKey.from_segment, ServiceKey.parse):
        with contextlib.suppress(InvalidArgument, ValueError):
            read(text)


def native(data: bytes) -> None:
    with contextlib.suppress(CorruptRecord):
        decode_instance(data)


def envelope(data: bytes) -> None:
    with contextlib.suppress(CorruptRecord):
        Envelope.decode(data).item(KEY)


RECORD = encode_instance(Instance.of("10.0.0.1:12200", metadata={"a": "b"}, zone="z"))
VALUE = Envelope.of(ConfigDraft("size: 10", "yaml", "ann"), 12, 1_766_197_200_000).encode()
DEEP = b'{"id":' + b"[" * 3000 + b"]" * 3000 + b"}"
TARGETS: dict[str, tuple[Callable[[bytes], None], Sequence[bytes]]] = {
    "native": (native, (RECORD, DEEP, b'{"v":1,"id":"a","host":"h","port":' + b"9" * 5000 + b"}", b'{"weight":NaN}')),
    "envelope": (envelope, (VALUE, DEEP + b"\n")),
    "services on disk": (services_on_disk, (b'{"v":1,"service":"fuzz","saved":1,"instances":[]}', DEEP)),
    "values on disk": (
        values_on_disk,
        (b'{"v":1,"key":"fuzz","group":"DEFAULT_GROUP","saved":1,"revision":"1"}', DEEP),
    ),
    "redis": (
        redis_words,
        (b"1 epoch nonce 1\n5 p 1 3\na1 x", b"owner 1 value", b"5-0 p n a r b x \xff", b"1 e n 99999999999\n"),
    ),
    "zookeeper": (
        zookeeper_words,
        (
            b"\0\0\0\x08\0\xff\xff\xff\xff\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xff\x01\xff\xff\xff\xff",
            b"\0\0\0\x08\0\0\0\0\0\x7f\xff\xff\xff" + b"\xff\xff\xff\xfc" * 8,
            b"\0\0\0\x01\0\0\0\x03\0\0\0\x02/a",
        ),
    ),
    "nacos": (
        nacos_words,
        (
            nacos.encode("A", b"{}", {"a": "b"}, "1.1.1.1"),
            b'{"ip":"10.0.0.1","port":1,"metadata":{"sofa.id":"x"}}',
            DEEP,
        ),
    ),
    "urls": (
        urls,
        (b"redis://u:p%40@h:1,i:2/0?lease=5s&namespace=x", b"zks://[::1]:2181/a?ca=x", b"${file:/etc/hostname}@h"),
    ),
    "toml": (
        settings_file,
        (b'[registry.a]\nurl = "redis://h"\n[registry.a.options]\nlease = "5s"\n', b"a=" + b"[" * 3000),
    ),
    "names": (names, (b"com.acme.Hello:1.0:g", b"a%3Ab", b"%", b"..")),
}
ALL = pytest.mark.parametrize("name", tuple(TARGETS))


def mutated(seed: bytes, chance: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(chance.randint(1, 8)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 4):
            case 0:
                data[at : at + 1] = bytes([chance.randint(0, 255)])
            case 1:
                del data[at : at + chance.randint(1, 8)]
            case 2:
                data[at:at] = bytes(data[: chance.randint(0, 40)])
            case 3:
                data[at:at] = chance.choice(
                    (b"\xff" * 4, b"\0" * 8, b'"', b"{", b"[", b"1e999", b"-1", b"\\ud800", b"\xc3")
                )
            case _:
                data[at : at + 4] = chance.randbytes(4)
    return bytes(data)


@ALL
@settings(deadline=SECONDS * 1000, max_examples=150)
@given(data=st.binary(max_size=2000))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name][0](data)


@ALL
@settings(deadline=SECONDS * 1000, max_examples=150)
@given(number=st.integers(0, 2**32))
def test_nearly_right_bytes(name: str, number: int) -> None:
    target, seeds = TARGETS[name]
    chance = random.Random(number)
    target(mutated(chance.choice(seeds), chance))


@ALL
def test_the_seeds_and_their_memory(name: str) -> None:
    target, seeds = TARGETS[name]
    tracemalloc.start()
    try:
        for seed in (*seeds, *(seed * 50 for seed in seeds)):
            begin = time.monotonic()
            target(seed)
            assert time.monotonic() - begin < 5 * SECONDS
        assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 1024 * 1024
    finally:
        tracemalloc.stop()


def run(name: str, seconds: float, number: int) -> tuple[int, list[str]]:
    """Random mutations of the seeds and of what they became; executions, and what escaped or took too long."""
    target, seeds = TARGETS[name]
    chance, pool, escapes, count = random.Random(number), list(seeds), [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(chance.choice(pool), chance)
        count += 1
        begin = time.monotonic()
        try:
            target(data)
        except Exception as error:  # noqa: BLE001  that is what is looked for
            escapes.append(f"{type(error).__name__}: {error} on {data!r:.300}")
        if time.monotonic() - begin > SECONDS:
            escapes.append(f"{time.monotonic() - begin:.1f} s on {data!r:.300}")
        if chance.random() < 0.01 and len(data) < 20_000:
            pool[len(seeds) + chance.randint(0, 99) :] = [data]
    return count, escapes


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz what decodes the words of others.")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", choices=tuple(TARGETS))
    given_arguments = parser.parse_args()
    failed = 0
    for name in [given_arguments.only] if given_arguments.only else list(TARGETS):
        count, escapes = run(name, given_arguments.seconds, given_arguments.seed)
        lines = [f"{name}: {count} executions, {len(escapes)} escapes, seed {given_arguments.seed}", *escapes[:5]]
        sys.stdout.write("\n  ".join(lines) + "\n")
        sys.stdout.flush()
        failed += len(escapes)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
