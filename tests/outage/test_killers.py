"""Python's own killers. Played are those of the gate; with ``SOFA_OUTAGE=all``, as `tox -e outage` has it, all, and their results are written."""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killers import busy, crowds, endings, page
from killers.endings import END
from killers.table import KILLERS, PLAYS, RESULTS, Killer
from matrix.cell import Cell
from matrix.table import BACKENDS, Result, Results, read

from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services import PRODUCTS, Service
from sofa_registry_adapters.testing.sites import ServerSite, site_of_product

MODULES = (busy, crowds, endings)
ALL = os.environ.get("SOFA_OUTAGE", "") == "all"
CELLS = [(backend, name) for backend in BACKENDS for name, one in KILLERS.items() if ALL or backend in one.gate]


@pytest.fixture(scope="module")
def sites(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Site]]:
    """One server for all cells of a backend; the one before it ends when the next begins."""
    open_sites: dict[str, Site] = {}

    def site_of(backend: str) -> Site:
        if backend not in open_sites:
            for name in tuple(open_sites):
                open_sites.pop(name).close()
            open_sites[backend] = _site(backend, request)
        return open_sites[backend]

    yield site_of
    for site in open_sites.values():
        site.close()


def _site(backend: str, request: pytest.FixtureRequest) -> Site:
    if backend not in PRODUCTS:
        return site_of_product(backend)
    own: Callable[[], Service] = request.getfixturevalue(f"own_{backend}")
    return ServerSite(own())


def _result(killer: Killer, **fields: object) -> Result:
    return Result(fault=killer.what, invariants=killer.invariants, **fields)  # type: ignore[arg-type]


def _note(backend: str, site: Site, killer: Killer, result: Result) -> None:
    """Write the result of this run; without ``SOFA_OUTAGE=all`` nowhere."""
    if not ALL:
        return
    found: Results = read(backend, RESULTS)
    product = "SQLite" if backend == "local" else PRODUCTS[backend].name
    found.versions = f"{product} {site.version()}, Python {platform.python_version()}"
    found.date = dt.datetime.now(dt.UTC).date().isoformat()
    found.cells[killer.name] = result
    RESULTS.mkdir(exist_ok=True)
    found.write(RESULTS)


def _play(killer: Killer, site: Site, folder: Path) -> Result:
    began = time.monotonic()
    cell = Cell(site, f"killer-{uuid.uuid4().hex[:8]}", folder)
    try:
        PLAYS[killer.name](cell)
        cell.finish()
    finally:
        site.heal()
        if "start" in site.abilities:
            site.start()
        cell.close()
    looked = cell.judge.looked
    unseen = [one for one in killer.invariants if not looked[one]]
    assert not unseen, f"the killer names {', '.join(unseen)}, and nothing looked at it"
    seconds = round(time.monotonic() - began, 1)
    figures, checks = tuple(cell.figures), sum(looked.values())
    return _result(killer, outcome="held", figures=figures, checks=checks, seconds=seconds)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("backend", "name"), CELLS)
def test_killer(backend: str, name: str, sites: Callable[[str], Site], tmp_path: Path) -> None:
    killer, site = KILLERS[name], sites(backend)
    if backend in killer.absent:
        _note(backend, site, killer, _result(killer, outcome="not applicable", reason=killer.absent[backend]))
        not_applicable(killer.absent[backend])
    if name == "gunicorn-preload" and importlib.util.find_spec("gunicorn") is None:
        pytest.skip("no gunicorn here: tox -e outage has it")
    try:
        result = _play(killer, site, tmp_path)
    except BaseException as error:
        _note(backend, site, killer, _result(killer, outcome="failed", reason=f"{type(error).__name__}: {error}"[:500]))
        raise
    _note(backend, site, killer, result)


def test_every_killer_is_played() -> None:
    assert set(PLAYS) == set(KILLERS)


def test_every_killer_is_on_the_page_with_its_bounds() -> None:
    text = page.page()
    assert all(one.what in text for one in KILLERS.values())
    figures = [
        figure
        for backend in BACKENDS
        for cell in read(backend, RESULTS).cells.values()
        for figure in cell.figures
        if figure.invariant == "I11" and figure.what == "the process has ended"
    ]
    assert figures
    assert all(figure.bound == END and figure.seconds <= END for figure in figures)
