"""What pytest loads wherever sofa-registry-adapters is installed: two options, and nothing more until one is used.

It stands beside the package, and imports nothing of it at first, so that other people's test runs pay nothing and
coverage, which begins after plug-ins are loaded, still sees every line of the package.
"""

from __future__ import annotations

import pytest

MODULE = "sofa_registry_adapters.testing.contract"
SUITE = f"{MODULE}.test_conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the conformance kit."""
    group = parser.getgroup("sofa-registry", "the conformance kit of sofa-registry-adapters")
    group.addoption(
        "--registry-url",
        metavar="URL",
        help=f"the registry that pytest --pyargs {MODULE} tests; options stand in it, a namespace does not",
    )
    group.addoption(
        "--registry-server",
        metavar="TEXT",
        default="",
        help="what the certificate says about the server, for example 'Redis 7.0.15'",
    )
    group.addoption(
        "--certificate",
        metavar="FILE",
        help="write what the contracts promise, and what became of each promise, to FILE as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the kit, if this run uses it."""
    if config.getoption("--registry-url") or config.getoption("--certificate"):
        from sofa_registry_adapters.testing.conformance import Conformance

        config.pluginmanager.register(Conformance(config), "sofa-registry-conformance")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse the suite without a registry to run it on."""
    if config.getoption("--registry-url"):
        return
    for item in items:
        module = item.getparent(pytest.Module)
        if module is not None and module.obj.__name__ == SUITE:
            raise pytest.UsageError(
                f"{MODULE} is run on a registry: name it with --registry-url, for example "
                f"pytest --pyargs {MODULE} --registry-url=redis://127.0.0.1:6379"
            )
