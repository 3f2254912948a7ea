"""The pytest plug-in behind ``--registry-url`` and ``--certificate``; `sofa_registry_pytest` loads it when one is used."""

from __future__ import annotations

import datetime as dt
import inspect
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import InvalidURL, RegistryError
from sofa_registry_adapters.settings import parse_target, redacted, scheme_of, table_of
from sofa_registry_adapters.spi.options import BackendType, Target, Value
from sofa_registry_adapters.testing import plugin as servers
from sofa_registry_adapters.testing.applicability import reason_of
from sofa_registry_adapters.testing.certificate import (
    Certificate,
    Outcome,
    Promise,
    Run,
    backend_facts,
    number_of,
    sentence_of,
    shown_url,
)

LEASES = ("lease", "session_timeout")
"""Options that set how long the records of the dead stay; a backend has one of them, or none."""
CONTRACTS = {"RegistryContract": "registry", "ConfigContract": "config center", "StoreContract": "store"}
_ORDER: dict[Outcome, int] = {"passed": 0, "not applicable": 1, "skipped": 2, "failed": 3}


class Subject:
    """The registry that is tested, from its URL. Raises `RegistryError` if that is none."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.backend: BackendType = Plugins().backend(scheme_of(url))
        self._table = table_of(self.backend)
        self._given = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
        if "namespace" in self._given:
            raise InvalidURL(f"{redacted(url)!r} has a namespace: leave it out, each test has one of its own")
        self.lease_option: str = next((name for name in LEASES if name in self._table), "")
        self.target({})

    @property
    def lacks(self) -> Collection[str]:
        """The contracts that it cannot be asked to keep."""
        backend = self.backend
        has_config = backend.load_config is not None or (backend.store and backend.capabilities.compare_and_set)
        absent = (("store", not backend.store), ("config center", not has_config))
        return frozenset(contract for contract, lacking in absent if lacking)

    def lease(self, wanted: float) -> float:
        """The lease for a test, in seconds: the URL's if it has one, else ``wanted`` if it is allowed."""
        if self.lease_option in self._given:
            return self.target({}).number(self.lease_option)
        option = self._table.get(self.lease_option)
        return max(wanted, (option.least or 0.0) if option else 0.0)

    def target(self, options: Mapping[str, Value]) -> Target:
        """The registry with further options."""
        return parse_target(self.url, self.backend, options)


_SUBJECT = pytest.StashKey[Subject]()


def subject_of(config: pytest.Config) -> Subject:
    """The registry of this run."""
    return config.stash[_SUBJECT]


class Conformance:
    """Checks the URL, drops what it cannot be asked, and keeps the books for the certificate."""

    def __init__(self, config: pytest.Config) -> None:
        url = config.getoption("--registry-url")
        if url:
            try:
                config.stash[_SUBJECT] = Subject(url)
            except RegistryError as error:
                raise pytest.UsageError(f"--registry-url: {error}") from None
        path = config.getoption("--certificate")
        self._path = Path(path).absolute() if path else None
        self._config = config
        self._urls: set[str] = {url} if url else set()
        self._promises: dict[tuple[str, str], Promise] = {}
        self._of_item: dict[str, Promise] = {}
        self._runs: dict[str, Run] = {}
        self._began = time.monotonic()
        self._started = dt.datetime.now(dt.UTC)
        self._written = ""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Drop the contracts of what there is not, a store or a config center, and note what each test promises."""
        subject = config.stash.get(_SUBJECT, None)
        if subject is not None:
            strangers = [one for one in items if _contract_of(one) in subject.lacks]
            items[:] = [one for one in items if one not in strangers]
            config.hook.pytest_deselected(items=strangers)
        for item in items:
            contract = _contract_of(item)
            if contract is not None:
                self._enter(item, contract)

    def _enter(self, item: pytest.Item, contract: str) -> None:
        owner: type = item.cls  # type: ignore[attr-defined]
        for name in dir(owner):
            if name.startswith("test_"):
                self._promises.setdefault((contract, name), _promise(owner, contract, name))
        self._of_item[item.nodeid] = self._promises[contract, item.originalname]  # type: ignore[attr-defined]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        """Note on which registry a test ran, where its class says it."""
        url = getattr(item, "funcargs", {}).get("registry_url")
        if isinstance(url, str) and item.nodeid in self._of_item and not self._config.getoption("--registry-url"):
            self._urls.add(url)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        promise = self._of_item.get(report.nodeid)
        if promise is None:
            return
        run = self._runs.get(report.nodeid)
        if run is None:
            run = self._runs[report.nodeid] = Run(report.nodeid.partition("[")[2].removesuffix("]"))
            promise.runs.append(run)
        run.seconds = round(run.seconds + report.duration, 3)
        outcome, reason = self._outcome(report)
        if _ORDER[outcome] > _ORDER[run.outcome]:
            run.outcome, run.reason = outcome, reason

    def _outcome(self, report: pytest.TestReport) -> tuple[Outcome, str]:
        absent = reason_of(report)
        if absent is not None:
            return "not applicable", self._discreet(absent)
        if report.skipped:
            text = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", ""))
            return "skipped", self._discreet(text.removeprefix("Skipped: "))
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash is not None else str(report.longrepr)
            return "failed", self._discreet(f"{report.when}: {text}"[:500])
        return "passed", ""

    def _discreet(self, text: str) -> str:
        """Text without the credentials of a URL."""
        for url in self._urls:
            text = text.replace(url, redacted(url))
            credentials = url.partition("://")[2].rpartition("@")[0]
            for secret in filter(None, (credentials, credentials.partition(":")[2])):
                text = text.replace(secret, "***")
        return text

    def pytest_report_teststatus(self, report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
        """See `sofa_registry_adapters.testing.plugin`."""
        return servers.pytest_report_teststatus(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the certificate, whatever became of the tests."""
        if self._path is None or not self._of_item:
            return
        if len({scheme_of(url) for url in self._urls}) > 1:
            self._written = f"no certificate: this run tested {len(self._urls)} registries, and one is of one registry"
            return
        certificate = self._certificate()
        certificate.write(self._path)
        self._written = f"certificate: {self._path} ({certificate.verdict})"

    def _certificate(self) -> Certificate:
        url = next(iter(sorted(self._urls)), "")
        backend = Plugins().backend(scheme_of(url)) if url else None
        return Certificate(
            url=shown_url(url, backend) if backend is not None else "",
            server=self._config.getoption("--registry-server"),
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._began, 1),
            promises=sorted(self._promises.values(), key=lambda one: (one.contract, one.test)),
            **(backend_facts(backend) if backend is not None else {}),
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is not applicable, and where the certificate is."""
        if not self._config.pluginmanager.has_plugin(servers.__name__):
            servers.tell_absent(terminalreporter)
        if self._written:
            terminalreporter.section("conformance")
            terminalreporter.line(self._written)


def _contract_of(item: pytest.Item) -> str | None:
    lines = getattr(getattr(item, "cls", None), "__mro__", ())
    return next((CONTRACTS[one.__name__] for one in lines if one.__name__ in CONTRACTS), None)


def _promise(owner: type, contract: str, name: str) -> Promise:
    documented = (base.__dict__[name].__doc__ for base in owner.__mro__ if name in base.__dict__)
    text = next(filter(None, documented), None)
    said = " ".join(inspect.cleandoc(text).split()) if text else sentence_of(name)
    return Promise(contract, number_of(name), name, said)
