"""Measure what scale costs: ``python tests/scale/measure.py [--only redis] [--part costs|herd] [--clients 1000]``.

The results go to tests/scale/results, from which docs/explanation/scale.md has its tables.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import platform
import resource
import sys

from scaling import herd
from scaling.costs import SIZES, Bench, one_size, weigh
from scaling.table import BACKENDS, Scale, read

from sofa_registry_adapters.testing.faults.operators import operator_of
from sofa_registry_adapters.testing.services import PRODUCTS, find_service
from sofa_registry_adapters.testing.services.local import LocalService


def _own(name: str, *, persistent: bool = False) -> LocalService:
    service = find_service(name, own=True, persistent=persistent)
    if not isinstance(service, LocalService):
        raise SystemExit(f"{name}: a server of this machine's own is needed, to see its processor time")
    return service


def _stamp(scale: Scale, service: LocalService) -> None:
    version = operator_of(service.product.scheme, service.host, service.port).version()
    version = version or service.product.image.name.partition(":v")[2]
    scale.versions = f"{PRODUCTS[scale.backend].name} {version}, Python {platform.python_version()}"
    scale.machine = f"{os.cpu_count()} processors, {platform.machine()}, {platform.system()}"
    scale.date = dt.datetime.now(dt.UTC).date().isoformat()


async def _costs(scale: Scale, service: LocalService) -> None:
    scale.changes, scale.firsts = [], []
    bench = Bench(scale.backend, service)
    try:
        for instances, consumers in SIZES:
            await one_size(bench, scale, instances, consumers)
            sys.stderr.write(f"{scale.changes[-1]}\n")
        await weigh(bench, scale)
    finally:
        bench.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BACKENDS, action="append")
    parser.add_argument("--part", choices=("costs", "herd"), action="append")
    parser.add_argument("--clients", type=int, default=1_000)
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for name in given.only or BACKENDS:
        scale = read(name)
        if "costs" in (given.part or ("costs",)):
            with _own(name) as service:
                asyncio.run(_costs(scale, service))
                _stamp(scale, service)
            scale.write()
        if "herd" in (given.part or ("herd",)):
            scale.herds = []
            for persistent in (False, True) if name == "redis" else (True,):
                with _own(name, persistent=persistent) as service:
                    scale.herds.append(herd.stampede(name, service, given.clients))
                    _stamp(scale, service)
                sys.stderr.write(f"{scale.herds[-1]}\n")
                scale.write()


if __name__ == "__main__":
    sys.exit(main())
