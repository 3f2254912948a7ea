"""``python -m sofa_registry_adapters.testing.soak``: 0 if everything held, 1 if not, 2 if it could not run."""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services import PRODUCTS, ServiceError
from sofa_registry_adapters.testing.sites import IN_PROCESS, AddressSite, site_of_product
from sofa_registry_adapters.testing.soak.plan import Plan, Shape
from sofa_registry_adapters.testing.soak.report import Report
from sofa_registry_adapters.testing.soak.run import Soak, new_namespace, shape_for
from sofa_registry_adapters.testing.soak.steps import Step, read_rounds


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sofa_registry_adapters.testing.soak", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="a registry that is there: its lines are broken, its server is left alone")
    where.add_argument("--product", choices=(*IN_PROCESS, *PRODUCTS), help="a server of its own, which is broken, too")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--rounds", type=int, help="how many rounds at most")
    parser.add_argument("--seed", type=int, help="what happens; a new one without it")
    parser.add_argument("--replay", type=Path, metavar="LOG", help="the steps of this log, and no others")
    for name in ("providers", "consumers", "children", "services"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Shape(), name), help=f"({getattr(Shape(), name)})")
    parser.add_argument("--slack", type=float, default=1.0, help="seconds that a busy machine may add to a bound (1)")
    parser.add_argument("--keep-going", action="store_true", help="do not end with the first violation")
    parser.add_argument("--log", type=Path, help="where to write each step, a JSON object a line")
    parser.add_argument("--result", type=Path, help="where to write the result, as JSON; without it: the output")
    return parser.parse_args(words)


def _site(given: argparse.Namespace) -> Site:
    options: dict[str, Value] = {"namespace": new_namespace()}
    return AddressSite(given.url, options) if given.url else site_of_product(given.product, options)


def _run(given: argparse.Namespace, site: Site) -> Report:
    seed: int = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    asked = Shape(
        providers=given.providers, consumers=given.consumers, children=given.children, services=given.services
    )
    shape = shape_for(site, asked)
    rounds: Iterable[Sequence[Step]] = read_rounds(given.replay) if given.replay else Plan(seed, shape).rounds()
    soak = Soak(site, shape, log=given.log, slack=given.slack)
    _say(f"soak of {type(site).__name__}, seed {seed}")
    return soak.run(itertools.islice(rounds, given.rounds), given.seconds, seed=seed, keep_going=given.keep_going)


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    given = _arguments(words)
    try:
        with _site(given) as site:
            report = _run(given, site)
    except (RegistryError, ServiceError) as error:
        _say(f"the soak cannot run: {error}")
        return 2
    if given.result is not None:
        given.result.write_bytes(report.json())
    else:
        sys.stdout.write(report.json().decode())
    _say(report.summary())
    for one in report.violations:
        _say(f"{one.invariant}, round {one.round}, {one.at:.1f} s: {one.what}")
    return 0 if report.passed else 1


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    # What is broken on purpose is no news.
    logging.getLogger("sofa_registry_adapters").setLevel(logging.CRITICAL)
    sys.exit(main())
