"""The cells of the outage matrix. Played are those of the gate; with ``SOFA_OUTAGE=all``, as `tox -e outage` has it, all, and their results are written."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matrix.places import PLACES
from matrix.playing import impossible, play, result_of
from matrix.table import BACKENDS, ROWS, Result, Results, Row, read

from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services import PRODUCTS, Service, ServiceUnavailable
from sofa_registry_adapters.testing.sites import ServerSite, site_of_product

ALL = os.environ.get("SOFA_OUTAGE", "") == "all"
for file in sorted((Path(__file__).parent / "matrix").glob("rows_*.py")):
    importlib.import_module(f"matrix.{file.stem}")
# Those of one place in a row: it is opened once.
CELLS = [
    (backend, row.id)
    for backend in BACKENDS
    for row in sorted(ROWS.values(), key=lambda one: one.place)
    if ALL or backend in row.gate
]


@pytest.fixture(scope="module")
def sites(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Site]]:
    """One site for all cells of a backend and a place; the one before it ends when the next begins."""
    open_sites: dict[tuple[str, str], Site] = {}

    def site_of(backend: str, place: str) -> Site:
        if (backend, place) not in open_sites:
            for name in tuple(open_sites):
                open_sites.pop(name).close()
            open_sites[backend, place] = _site(backend, place, request)
        return open_sites[backend, place]

    yield site_of
    for site in open_sites.values():
        site.close()


def _site(backend: str, place: str, request: pytest.FixtureRequest) -> Site:
    if place:
        try:
            return PLACES[place, backend]()
        except ServiceUnavailable as error:
            pytest.skip(str(error))
    if backend not in PRODUCTS:
        return site_of_product(backend)
    own: Callable[[], Service] = request.getfixturevalue(f"own_{backend}")
    return ServerSite(own())


class Books:
    """The results of this run, written as they come; without ``SOFA_OUTAGE=all`` nowhere."""

    def __init__(self) -> None:
        self._results: dict[str, Results] = {}

    def note(self, backend: str, site: Site | None, row: Row, result: Result) -> None:
        if not ALL:
            return
        found = self._results.setdefault(backend, read(backend))
        product = "SQLite" if backend == "local" else PRODUCTS[backend].name
        if site is not None and not row.place:
            found.versions = f"{product} {site.version()}, Python {platform.python_version()}"
        found.date = dt.datetime.now(dt.UTC).date().isoformat()
        found.cells[row.id] = result
        found.write()


@pytest.fixture(scope="module")
def books() -> Books:
    return Books()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("backend", "name"), CELLS)
def test_cell(backend: str, name: str, sites: Callable[[str, str], Site], books: Books, tmp_path: Path) -> None:
    row = ROWS[name]
    if backend in row.absent:
        books.note(backend, None, row, result_of(row, "not applicable", reason=row.absent[backend]))
        not_applicable(row.absent[backend])
    site = sites(backend, row.place)
    if reason := impossible(row, site):
        books.note(backend, site, row, result_of(row, "not applicable", reason=reason))
        not_applicable(reason)
    try:
        result = play(row, site, tmp_path)
    except BaseException as error:
        books.note(backend, site, row, result_of(row, "failed", reason=f"{type(error).__name__}: {error}"[:500]))
        raise
    books.note(backend, site, row, result)
