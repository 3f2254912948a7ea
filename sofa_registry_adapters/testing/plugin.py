"""A pytest plugin that offers real servers as fixtures: `pytest -p sofa_registry_adapters.testing.plugin`.

- `redis_service`, `zookeeper_service`, `etcd_service`, `etcd36_service`, `nacos_service`, `nacos2_service`: one shared server
  for the session; use fresh names, do not hurt it. `etcd` is the one on this machine, `etcd36` one that was built;
  `nacos` is its line 3, `nacos2` its line 2.
- `registry`, `registry_stage`, `registry_clock`: an in-process registry, its faults, its time; no server needed.
- `real_redis`, `real_zookeeper`, `real_etcd`, `real_etcd36`, `real_nacos`, `real_nacos2`: URLs of real ones.
- `own_redis`, `own_zookeeper`, `own_etcd`, `own_etcd36`, `own_nacos`, `own_nacos2`: a factory of servers for one module, to
  be killed, frozen and wiped.
- `own_redis_sentinel`, `own_redis_cluster`: a master with replicas and Sentinels, and a cluster, for one module.

Where there is no server the test is skipped with the reason; with `--require-services` it fails instead. The
end of the run says where each server came from, or how to get it.
"""

from __future__ import annotations

import contextlib
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from sofa_registry_adapters.testing.applicability import reason_of
from sofa_registry_adapters.testing.attendance import ATTENDANCE, Attendance
from sofa_registry_adapters.testing.services import (
    PRODUCTS,
    Product,
    Service,
    etcd,
    nacos,
)
from sofa_registry_adapters.testing.services.redis_sets import (
    ClusterSet,
    RedisSet,
    SentinelSet,
    cluster_set,
    sentinel_set,
)

if TYPE_CHECKING:
    from sofa_registry_adapters.registry import Registry
    from sofa_registry_adapters.testing.clock import ManualClock
    from sofa_registry_adapters.testing.doubles import RegistryStage

S = TypeVar("S", bound=RedisSet)
ABSENT = "not applicable"
TOLD = "sofa_services"


class OwnService(Protocol):
    """A factory of servers of one product for one module."""

    def __call__(self, *, persistent: bool = False) -> Service:
        """A server that runs and answers, whatever was done to it before; one for each set of options.

        Its data is what the tests before left: `wipe` it, or use fresh names.
        """


class OwnEtcd(Protocol):
    """A factory of etcd servers of one version for one module."""

    def __call__(self, *options: str) -> Service:
        """As `OwnService`; with further words for the command line. The data survives a restart."""


class OwnNacos(Protocol):
    """A factory of Nacos servers of one line for one module."""

    def __call__(
        self, *, password: str = "", push_delay: float = 0.5, settings: Mapping[str, str] | None = None
    ) -> Service:
        """As `OwnService`; see `nacos.product` for the options. Each server takes half a gigabyte until the module ends."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the test kit."""
    parser.getgroup("servers").addoption(
        "--require-services",
        nargs="?",
        const="all",
        default="",
        metavar="NAMES",
        help=f"fail, not skip, without a server: all (the same as no value), or some of {','.join(PRODUCTS)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the options."""
    asked = config.getoption("--require-services")
    names = frozenset(PRODUCTS) if asked == "all" else frozenset(name for name in asked.split(",") if name)
    for name in sorted(names - set(PRODUCTS)):
        near = difflib.get_close_matches(name, PRODUCTS, n=1)
        hint = f"did you mean {near[0]}?" if near else "write --require-services=all before a path."
        message = f"--require-services: no server is called {name!r}, there are {', '.join(PRODUCTS)}; {hint}"
        raise pytest.UsageError(message)
    config.stash[ATTENDANCE] = Attendance(names)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: tell the process that will write the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[TOLD] = session.config.stash[ATTENDANCE].told()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist is done: take in which servers it had."""
    told = getattr(node, "workeroutput", {}).get(TOLD)
    if told is not None:
        node.config.stash[ATTENDANCE].learn(told)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """Count what a product declares absent apart from what was skipped for want of something."""
    return None if reason_of(report) is None else (ABSENT, "n", "NOT APPLICABLE")


def tell_absent(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not applicable, and why."""
    reports = terminalreporter.stats.get(ABSENT, [])
    if not reports:
        return
    counted = Counter((report.nodeid.partition("::")[0], reason_of(report)) for report in reports)
    terminalreporter.section("not applicable: declared absent")
    for (place, reason), count in sorted(counted.items(), key=str):
        terminalreporter.line(f"{count:>3}  {place}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what is not applicable and why, and for each server where it came from, or how to get it."""
    tell_absent(terminalreporter)
    attendance = config.stash[ATTENDANCE]
    if not attendance.found:
        return
    terminalreporter.section("services")
    for name in PRODUCTS:
        terminalreporter.line(f"{name:<10} {attendance.found.get(name, 'no test asked for it')}")
    skipped = len(terminalreporter.stats.get("skipped", ()))
    if attendance.missing or attendance.lacking:
        terminalreporter.line(f"{skipped} tests were skipped; those that need a server run once it is there.")


def _shared(request: pytest.FixtureRequest, name: str) -> Iterator[Service]:
    with request.config.stash[ATTENDANCE].find(PRODUCTS[name]) as service:
        yield service


class _Own:
    """The servers that one module has started, one for each set of options."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._attendance = request.config.stash[ATTENDANCE]
        self._started: dict[tuple[object, ...], Service] = {}

    def get(self, product: Product, *options: object, persistent: bool = False) -> Service:
        if options not in self._started:
            self._started[options] = self._attendance.find(product, own=True, persistent=persistent)
        self._started[options].start()
        return self._started[options]

    def close(self) -> None:
        for service in self._started.values():
            service.close()


def _own(request: pytest.FixtureRequest, name: str) -> Iterator[OwnService]:
    with contextlib.closing(_Own(request)) as servers:

        def get(*, persistent: bool = False) -> Service:
            return servers.get(PRODUCTS[name], persistent, persistent=persistent)

        yield get


def _own_etcd(request: pytest.FixtureRequest, version: str) -> Iterator[OwnEtcd]:
    with contextlib.closing(_Own(request)) as servers:

        def get(*options: str) -> Service:
            return servers.get(etcd.product(version, options=options), *options)

        yield get


def _own_nacos(request: pytest.FixtureRequest, line: int) -> Iterator[OwnNacos]:
    with contextlib.closing(_Own(request)) as servers:

        def get(*, password: str = "", push_delay: float = 0.5, settings: Mapping[str, str] | None = None) -> Service:
            product = nacos.product(line, password=password, push_delay=push_delay, settings=settings)
            return servers.get(product, password, push_delay, tuple(sorted((settings or {}).items())))

        yield get


def _own_set(request: pytest.FixtureRequest, build: Callable[[], S]) -> Iterator[Callable[[], S]]:
    started: list[S] = []

    def get() -> S:
        if started:
            started[0].start()
        else:
            started.append(request.config.stash[ATTENDANCE].build("redis", build))
        return started[0]

    yield get
    for one in started:
        one.close()


@pytest.fixture
def registry_clock() -> ManualClock:
    """Time that stands still until it is advanced."""
    from sofa_registry_adapters.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def registry_stage() -> RegistryStage:
    """An in-process registry of the test's own: its faults, and further registries beside `registry`."""
    from sofa_registry_adapters.testing.doubles import RegistryStage

    return RegistryStage()


@pytest.fixture
def registry(registry_stage: RegistryStage) -> Iterator[Registry]:
    """An open `Registry` that nobody else sees; no server is needed."""
    with registry_stage.registry() as opened:
        yield opened


@pytest.fixture
def real_redis(redis_service: Service) -> str:
    """The URL of a real Redis, found or started; use a ``?namespace=`` of your own."""
    return redis_service.url


@pytest.fixture
def real_zookeeper(zookeeper_service: Service) -> str:
    """The URL of a real ZooKeeper, found or started; use a ``?namespace=`` of your own."""
    return zookeeper_service.url


@pytest.fixture
def real_etcd(etcd_service: Service) -> str:
    """The URL of a real etcd, found or started; use a ``?namespace=`` of your own."""
    return etcd_service.url


@pytest.fixture
def real_etcd36(etcd36_service: Service) -> str:
    """The URL of a real etcd of the version that was built; use a ``?namespace=`` of your own."""
    return etcd36_service.url


@pytest.fixture
def real_nacos(nacos_service: Service) -> str:
    """The URL of a real Nacos of line 3, found or started; use a namespace of your own, as its path."""
    return nacos_service.url


@pytest.fixture
def real_nacos2(nacos2_service: Service) -> str:
    """The URL of a real Nacos of line 2, found or started; use a namespace of your own, as its path."""
    return nacos2_service.url


@pytest.fixture(scope="session")
def redis_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The Redis server that all tests of the session share."""
    yield from _shared(request, "redis")


@pytest.fixture(scope="session")
def zookeeper_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The ZooKeeper server that all tests of the session share."""
    yield from _shared(request, "zookeeper")


@pytest.fixture(scope="session")
def etcd_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The etcd server that all tests of the session share."""
    yield from _shared(request, "etcd")


@pytest.fixture(scope="session")
def etcd36_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The etcd server of the version that was built, which all tests of the session share."""
    yield from _shared(request, "etcd36")


@pytest.fixture(scope="session")
def nacos_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The Nacos server of line 3 that all tests of the session share."""
    yield from _shared(request, "nacos")


@pytest.fixture(scope="session")
def nacos2_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The Nacos server of line 2 that all tests of the session share."""
    yield from _shared(request, "nacos2")


@pytest.fixture(scope="module")
def own_redis(request: pytest.FixtureRequest) -> Iterator[OwnService]:
    """Redis servers of this module's own."""
    yield from _own(request, "redis")


@pytest.fixture(scope="module")
def own_zookeeper(request: pytest.FixtureRequest) -> Iterator[OwnService]:
    """ZooKeeper servers of this module's own."""
    yield from _own(request, "zookeeper")


@pytest.fixture(scope="module")
def own_etcd(request: pytest.FixtureRequest) -> Iterator[OwnEtcd]:
    """Etcd servers of this module's own."""
    yield from _own_etcd(request, "")


@pytest.fixture(scope="module")
def own_etcd36(request: pytest.FixtureRequest) -> Iterator[OwnEtcd]:
    """Etcd servers of this module's own, of the version that was built."""
    yield from _own_etcd(request, etcd.CURRENT)


@pytest.fixture(scope="module")
def own_nacos(request: pytest.FixtureRequest) -> Iterator[OwnNacos]:
    """Nacos servers of line 3 of this module's own."""
    yield from _own_nacos(request, 3)


@pytest.fixture(scope="module")
def own_nacos2(request: pytest.FixtureRequest) -> Iterator[OwnNacos]:
    """Nacos servers of line 2 of this module's own."""
    yield from _own_nacos(request, 2)


@pytest.fixture(scope="module")
def own_redis_sentinel(request: pytest.FixtureRequest) -> Iterator[Callable[[], SentinelSet]]:
    """A master with replicas and Sentinels, of this module's own; whole whenever it is asked for."""
    yield from _own_set(request, sentinel_set)


@pytest.fixture(scope="module")
def own_redis_cluster(request: pytest.FixtureRequest) -> Iterator[Callable[[], ClusterSet]]:
    """A Redis cluster of this module's own; whole whenever it is asked for."""
    yield from _own_set(request, cluster_set)
