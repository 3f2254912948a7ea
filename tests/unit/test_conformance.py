from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import Option
from sofa_registry_adapters.testing.certificate import (
    Certificate,
    Promise,
    Run,
    backend_facts,
    badge,
    main,
    markdown,
    number_of,
    read,
    sentence_of,
    shown_url,
)
from sofa_registry_adapters.testing.conformance import Subject

ROOT = Path(__file__).parents[2]
SUITE = "sofa_registry_adapters.testing.contract"
FEW = "test_10 or test_14 or test_47_deleted_behind or test_50 or test_listing"


def kit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The kit as a stranger runs it: in a folder of its own, without a conftest."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "sofa_registry_pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def certificate(backend: str = "one", *promises: Promise) -> Certificate:
    return Certificate(
        url=f"{backend}://", backend=backend, started="2026-01-02T03:04:05+00:00", seconds=1.5, promises=[*promises]
    )


KEPT = Promise("registry", "01", "test_01_kept", "It is | kept.", [Run("a"), Run("b", "not applicable", "no push")])
BROKEN = Promise("store", "2", "test_2_broken", "It is broken.", [Run(""), Run("x", "failed", "call: <boom>")])
ABSENT = Promise("store", "", "test_absent", "It is absent.", [Run("", "not applicable", "no lease")])
NEVER = Promise("store", "3", "test_3_never", "It never ran.")


def test_a_run_without_a_line_of_code(tmp_path: Path) -> None:
    done = kit(tmp_path, "--pyargs", SUITE, "--registry-url=memory://kit", "--certificate=out/c.json", "-k", FEW)
    assert done.returncode == 0, done.stdout
    found = read(tmp_path / "out" / "c.json")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.json"]
    verdicts = {(one.contract, one.test): one.verdict for one in found.promises}
    assert verdicts["registry", "test_10_services"] == "passed"
    assert verdicts["store", "test_listing"] == "passed"
    assert verdicts["registry", "test_50_restart"] == "not applicable"
    assert verdicts["registry", "test_22_replica"] == "not run"
    [services] = [one for one in found.promises if one.test == "test_10_services"]
    assert {run.case for run in services.runs} == {"blocking", "async"}
    assert services.promise.startswith("Services are listed")
    assert (found.backend, found.capabilities["push"], found.url) == ("memory", True, "memory://kit")
    assert f"certificate: {tmp_path / 'out' / 'c.json'}" in done.stdout
    assert "the fixture faults has no ability kill" in done.stdout


def test_the_suite_without_a_registry_is_a_usage_error(tmp_path: Path) -> None:
    done = kit(tmp_path, "--pyargs", SUITE)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "name it with --registry-url" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("url", "said"),
    (
        ("redos://127.0.0.1", "did you mean 'redis'"),
        ("redis://", "names no host"),
        ("memory://?namespace=a", "leave it out"),
    ),
)
def test_a_url_that_is_none_is_a_usage_error(tmp_path: Path, url: str, said: str) -> None:
    done = kit(tmp_path, f"--registry-url={url}", "--pyargs", SUITE)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr + done.stdout


def test_a_run_that_fails_writes_a_certificate_without_secrets(tmp_path: Path) -> None:
    url = "redis://me:s3cret@127.0.0.1:1?call_timeout=200ms"
    done = kit(tmp_path, "--pyargs", SUITE, f"--registry-url={url}", "--certificate=c.json", "-k", "test_2_nothing")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    text = (tmp_path / "c.json").read_text()
    assert "s3cret" not in text
    found = read(tmp_path / "c.json")
    assert found.totals["promises failed"] == 1
    assert "redis" in found.clients
    assert found.url == "redis://***@127.0.0.1:1?call_timeout=200ms"
    assert found.origin.startswith("sofa-registry-adapters ")


@pytest.mark.parametrize(
    ("url", "shown"),
    (
        ("redis://h", "redis://h"),
        ("redis://h:1/2?lease=3s&poll=0.1", "redis://h:1/2?lease=3s&poll=0.1"),
        ("redis://u:geheim@h?lease=3s", "redis://***@h?lease=3s"),
        ("redis://u:ge?lease=heim@h?lease=3s", "redis://***@h?lease=3s"),
        ("redis://h?%s=geheim&lease=3s", "redis://h?%s=***&lease=3s"),
        ("redis://h?strange=geheim", "redis://h?strange=***"),
    ),
)
def test_only_what_is_secret_is_hidden(url: str, shown: str) -> None:
    backend = Plugins().backend("redis")
    option = Option(name="token", kind="secret", default="", meaning="")
    backend = msgspec.structs.replace(backend, options=(*backend.options, option))
    assert shown_url(url.replace("%s", "token"), backend) == shown.replace("%s", "token")


def test_a_plug_in_that_is_installed_editable_has_its_origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of such an installation there are metadata and a path, and no list of modules."""
    facts = tmp_path / "strange_plugin-2.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-plugin\nVersion: 2.0\n")
    (facts / "entry_points.txt").write_text("[sofa_registry_adapters]\nstrange = strange_module\n")
    monkeypatch.syspath_prepend(tmp_path)

    def load() -> Callable[..., object]:
        raise NotImplementedError

    load.__module__ = "strange_module"
    backend = msgspec.structs.replace(Plugins().backend("memory"), load=load)
    assert backend_facts(backend)["origin"] == "strange-plugin 2.0"


def test_a_subclass_gets_a_certificate_of_its_own_url(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n"
        f"from {SUITE} import RegistryContract\n"
        "class TestMine(RegistryContract):\n"
        "    @pytest.fixture\n"
        "    def registry_url(self):\n"
        "        return 'memory://mine'\n"
    )
    done = kit(tmp_path, "--certificate=c.json", "-k", "test_08 or test_09_addresses")
    assert done.returncode == 0, done.stdout
    found = read(tmp_path / "c.json")
    assert (found.url, found.totals["tests passed"]) == ("memory://mine", 4)


def test_other_peoples_runs_load_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other():\n"
        "    assert 'sofa_registry_pytest' in sys.modules\n"
        "    assert 'sofa_registry_adapters' not in sys.modules\n"
    )
    done = kit(tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_lease_of_a_url_is_kept() -> None:
    assert Subject("memory://").lease(2.0) == 2.0
    assert Subject("memory://?lease=5s").lease(2.0) == 5.0
    assert Subject("zookeeper://127.0.0.1?session_timeout=4s").lease(2.0) == 4.0
    with pytest.raises(InvalidURL, match="leave it out"):
        Subject("memory://?namespace=x")


def test_names_are_sentences() -> None:
    assert (number_of("test_06_gone"), sentence_of("test_06_withdrawn_is_gone")) == ("06", "Withdrawn is gone.")
    assert (number_of("test_hard_names"), sentence_of("test_hard_names")) == ("", "Hard names.")


def test_the_matrix() -> None:
    table = markdown([certificate("one", KEPT, BROKEN), certificate("two", KEPT, ABSENT, NEVER)])
    assert "| 01 | It is \\| kept. | yes | yes |" in table
    assert "| 2 | It is broken. | **no** |  |" in table
    assert "|  | It is absent. |  | n/a |" in table
    assert "| 3 | It never ran. |  | not run |" in table
    assert "- 1 failed: call: &lt;boom>" in table
    assert "- 1 not applicable: no lease" in table


@pytest.mark.parametrize(
    ("promises", "count", "colour"),
    (
        ((KEPT, ABSENT), "1 of 1", "#2e7d32"),
        ((KEPT, BROKEN), "1 of 2", "#c62828"),
        ((KEPT, NEVER), "1 of 2", "#b26a00"),
    ),
)
def test_the_badge(promises: tuple[Promise, ...], count: str, colour: str) -> None:
    drawn = badge([certificate("one", *promises)])
    assert count in drawn
    assert colour in drawn


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, table, drawing = tmp_path / "c.json", tmp_path / "t.md", tmp_path / "b.svg"
    certificate("one", KEPT).write(file)
    assert msgspec.json.decode(file.read_bytes())["totals"]["promises passed"] == 1
    assert main([str(file), "--markdown", str(table), "--badge", str(drawing)]) == 0
    assert table.read_text() == markdown([read(file)])
    assert drawing.read_text().startswith("<svg")
    certificate("one", BROKEN).write(file)
    assert main([str(file)]) == 1
    file.write_text("{}")
    assert main([str(file)]) == 2
    assert "no certificate" in capsys.readouterr().err
