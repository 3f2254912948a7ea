"""What doctor says of settings: URLs, files, passwords that everybody may read, client libraries."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import pytest
from doctor_reports import PAGE, SECRET, QuickClock, codes, home, is_documented, only, report_on

from sofa_registry_adapters.cli.doctor import command
from sofa_registry_adapters.cli.doctor.examination import Wish, examine

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["home"]


@pytest.mark.parametrize(
    ("url", "code", "said"),
    (
        ("redsi://h", "unknown-scheme", "no backend for the URL scheme 'redsi': did you mean 'redis'?"),
        ("redis://h?leas=3", "unknown-option", "redis:// has no option 'leas': did you mean 'lease'?"),
        (f"redis://u:{SECRET}@h:port", "wrong-url", "is not a number from 1 to 65535"),
        ("local://x?layout=nativ", "wrong-url", "no layout is called 'nativ': did you mean 'native'?"),
        ("127.0.0.1:6379", "wrong-url", "is not a registry URL: write scheme://"),
    ),
)
def test_a_url_that_cannot_be_used(url: str, code: str, said: str) -> None:
    finding = only(url)
    assert (finding.step, finding.code, finding.severity) == ("settings", code, "error")
    assert said in finding.sentence
    assert finding.sentence.endswith("Correct it where it was given: the argument.")
    assert is_documented(finding) is (code in ("unknown-option", "unknown-scheme"))


def test_the_source_of_a_wrong_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFA_REGISTRY_URL", "redsi://h")
    assert (
        "where it was given: the variable SOFA_REGISTRY_URL"
        in command.run(examine(Wish(), QuickClock())).findings[0].sentence
    )


@pytest.fixture
def file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where ``sofa-registry.toml`` is read from."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sofa-registry.toml"


def test_the_entry_of_the_file_is_named(file: pathlib.Path) -> None:
    file.write_text(f'[registry.orders]\nurl = "local://{file.parent}/registry.db"\n')
    report = report_on("orders")
    assert "from [registry.orders] in sofa-registry.toml" in report.steps[0].seen
    assert not report.findings
    file.write_text('[registry.orders]\nurl = "redis://h?leas=3"\n')
    assert only("orders").advice == "Correct it where it was given: [registry.orders] in sofa-registry.toml."
    assert only("ordres").what.startswith("no registry is called 'ordres': did you mean 'orders'?")


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("[registry", "sofa-registry.toml cannot be read"),
        ("[registry.orders]\nulr = 'x'", "has no key 'ulr': did you mean 'url'?"),
        ("[registry.orders]\nurl = 'redis://:${REDIS_PASSWORD}@h'", "which is not set, or empty"),
    ),
)
def test_a_file_that_is_wrong(file: pathlib.Path, text: str, said: str) -> None:
    file.write_text(text)
    finding = only("orders")
    assert (finding.step, finding.code) == ("settings", "wrong-url")
    assert said in finding.sentence
    assert is_documented(finding) is ("orders" in text)


@pytest.mark.parametrize(
    ("entry", "mode", "warned"),
    (
        (f'url = "redis://app:{SECRET}@127.0.0.1:1"', 0o644, True),
        (f'url = "redis://:{SECRET}${{FILLED}}@127.0.0.1:1"', 0o604, True),
        (f'url = "redis://app:{SECRET}@127.0.0.1:1"', 0o600, False),
        (f'url = "redis://app:{SECRET}@127.0.0.1:1"', 0o640, False),
        ('url = "redis://app:${FILLED}@127.0.0.1:1"', 0o644, False),
        ('url = "redis://app@127.0.0.1:1"', 0o644, False),
    ),
)
def test_a_password_that_everybody_may_read(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch, entry: str, mode: int, *, warned: bool
) -> None:
    monkeypatch.setenv("FILLED", SECRET)
    file.write_text(f"[registry.orders]\n{entry}\n")
    file.chmod(mode)
    report = report_on("orders")
    assert (codes(report)[:1] == ["readable-secret"]) is warned
    assert report.steps[0].good is not warned
    assert SECRET not in str(report)
    if warned:
        assert is_documented(report.findings[0])
        assert report.findings[0].severity == "warning"
        assert report.steps[-1].step == "tcp", "it goes on"


@pytest.mark.parametrize(("library", "scheme"), (("redis", "redis"), ("kazoo", "zookeeper")))
def test_a_missing_client_library(library: str, scheme: str) -> None:
    blocked = textwrap.dedent(f"""
        import sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name == {library!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Blocked())
        from sofa_registry_adapters.cli import main
        sys.exit(main(["doctor", "--url", "{scheme}://h"]))
    """)
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    said = f"{scheme}:// needs the library '{library}', which is not installed"
    cure = f"Install it: pip install 'sofa-registry-adapters[{scheme}]'"
    assert f"error: settings: {said}. {cure}\n" in done.stdout
    assert scheme != "redis" or f"error: settings: {said}. {cure}\n" in PAGE.read_text(encoding="utf-8")
