"""The doctor asked about a URL, what it said, and a room whose records are written by hand."""

from __future__ import annotations

import pathlib
import re
import uuid
from typing import Any

import pytest

from sofa_registry_adapters.backends.memory.spaces import Space, space
from sofa_registry_adapters.cli.doctor import command
from sofa_registry_adapters.cli.doctor.examination import Wish, examine
from sofa_registry_adapters.cli.doctor.findings import Finding, Report
from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import Record, RecordKey
from sofa_registry_adapters.testing.services import Service

HELLO = ServiceKey("com.acme.Hello", "1.0")
BUCKET = ("services", HELLO.segment)
SECRET = "s3cret-canary"
TIMEOUT = 2.0
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "how-to" / "when-things-go-wrong.md"


class QuickClock(SystemClock):
    """Does not wait, and may be off."""

    def __init__(self, off_ms: int = 0) -> None:
        self.off_ms = off_ms
        self.slept: list[float] = []

    def wall_ms(self) -> int:
        return super().wall_ms() + self.off_ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("SOFA_REGISTRY_URL", raising=False)


def report_on(url: str | None, **wish: Any) -> Report:
    return command.run(examine(Wish(url, **{"timeout": TIMEOUT, **wish}), QuickClock()))


def only(url: str | None, **wish: Any) -> Finding:
    """The one finding, which ended the examination."""
    report = report_on(url, **wish)
    (finding,) = report.findings
    assert (report.steps[-1].step, report.steps[-1].good) == (finding.step, False)
    assert SECRET not in str(report)
    return finding


def codes(report: Report) -> list[str]:
    return [one.code for one in report.findings]


def is_documented(finding: Finding) -> bool:
    """Whether the page about wrong set-ups has this sentence, ports, folders and waits aside."""
    said = f"{finding.severity}: {finding.where or finding.step}: {finding.sentence}\n"
    return plain(said) in plain(PAGE.read_text(encoding="utf-8"))


def plain(text: str) -> str:
    text = re.sub(r"(127\.0\.0\.1|192\.0\.2\.\d+):\d+", "ADDRESS", text)
    text = re.sub(r"/\S*/registry\.db", "registry.db", text)
    # Each backend and each plug-in adds to the list.
    text = re.sub(
        r"backend for the URL scheme '(\w+)'(.*?) Known are [\w+, ]+", r"backend for the URL scheme '\1'\2", text
    )
    return re.sub(r"within [\d.]+ s", "within some s", text)


def fresh(service: Service, **options: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in {"namespace": uuid.uuid4().hex, **options}.items())
    return f"{service.name}://{service.host}:{service.port}?{query}"


def value_of(address: str = "10.0.0.7:80", **fields: Any) -> bytes:
    return NativeLayout().record(HELLO, Instance.of(address, **fields)).value


@pytest.fixture
def room() -> tuple[str, Space]:
    name = uuid.uuid4().hex
    return f"memory://{name}", space(name)


def put(place: Space, name: str, value: bytes, *, owned: bool = True, owner: str = "foreign") -> RecordKey:
    place.write_behind(Record(BUCKET, name, value, owned=owned), owner)
    return RecordKey(BUCKET, name)


def finding_of(report: Report, code: str) -> Finding:
    (finding,) = [one for one in report.findings if one.code == code]
    assert finding.step == "records"
    assert finding.service == str(HELLO)
    return finding


def fresh_like(service: Service, namespace: str) -> str:
    return f"{service.name}://{service.host}:{service.port}?namespace={namespace}"
