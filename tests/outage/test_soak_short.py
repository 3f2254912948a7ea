"""Twenty seconds of the soak on each backend; ``tox -e soak`` is half an hour of it.

``SOFA_SOAK_SEED``: another seed, or ``random``. ``SOFA_SOAK_SECONDS``: how long. ``SOFA_SOAK_RESULTS``: a folder for the results.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services import PRODUCTS, Service
from sofa_registry_adapters.testing.sites import ServerSite, site_of_product
from sofa_registry_adapters.testing.soak import Plan, Shape, Soak, new_namespace, shape_for

SECONDS = float(os.environ.get("SOFA_SOAK_SECONDS", "20"))
SEED = os.environ.get("SOFA_SOAK_SEED", "6")
BACKENDS = ("memory", "local", "redis", "zookeeper", "etcd", "nacos")
RESULTS = os.environ.get("SOFA_SOAK_RESULTS", "")
Own = Callable[[], Service]


@pytest.fixture(params=BACKENDS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    name: str = request.param
    options: dict[str, Value] = {"namespace": new_namespace()}
    if name in PRODUCTS:
        own: Own = request.getfixturevalue(f"own_{name}")
        with ServerSite(own(), options) as made:
            yield made
    else:
        with site_of_product(name, options) as made:
            yield made


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """pytest keeps every log record of a test, with the frames of its errors and what these hold: that is not to be taken for ours."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 100)
def test_soak(site: Site, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    seed = random.SystemRandom().randrange(10**6) if SEED == "random" else int(SEED)
    shape, log = shape_for(site, Shape()), tmp_path / "soak.log"
    with unheard():
        report = Soak(site, shape, log=log).run(Plan(seed, shape).rounds(), SECONDS, seed=seed)
    record_property("soak", report.summary())
    if RESULTS:
        (Path(RESULTS) / f"soak-{report.backend.removesuffix('://')}.json").write_bytes(report.json())
    assert report.passed, f"{report.summary()}\n{log}\n" + "\n".join(map(str, report.violations))
    # A server that takes long to start makes long rounds.
    assert report.rounds >= (1 if site.outage else 3)
    assert min(report.looked[name] for name in ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I10", "I12")) > 0
