"""P10: what an import costs.

A new interpreter for each time, in turns; user and system time of the import statement alone, by the interpreter's own clock. Baseline: `import kazoo.client`. Ours: `import sofa_registry_adapters`. *opened*: that, and a Registry
in memory, opened and closed, which brings the engine and asyncio. A backend: what its modules take after that and the raw client library,
against the raw client library. Peers: tooz and nacos-sdk-python.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from measuring.children import environment
from measuring.report import Cell, of_limit
from measuring.rounds import alternate, figures, ratio

GOAL = "P10"
TITLE = "Import"
BACKENDS = ("",)
OURS = "import sofa_registry_adapters"
USED = "from sofa_registry_adapters import Registry; Registry('memory://bench').open().close()"
RAW = {
    "redis": "import redis, redis.asyncio",
    "zookeeper": "import kazoo.client",
    "etcd": "import grpc, grpc.aio; from google.protobuf import descriptor_pb2, descriptor_pool, message_factory",
    "nacos": "import grpc, grpc.aio",
}
TIMED = "import time, sys\n{before}\nstart = time.process_time()\n{timed}\nprint(time.process_time() - start)"


def imported(timed: str, before: str = "") -> Callable[[], list[float]]:
    """A round: one new interpreter."""
    program = TIMED.format(before=before, timed=timed)

    def play() -> list[float]:
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment()
        )
        return [float(done.stdout.split()[-1])]

    return play


def measure(_: object, rounds: int) -> list[Cell]:
    """All cells."""
    sides = {"ours": imported(OURS), "opened": imported(USED), "raw": imported("import kazoo.client")}
    for name, library in RAW.items():
        module = f"import sofa_registry_adapters.backends.{name}.{'registry' if name == 'nacos' else 'store'}"
        sides[f"raw {name}"] = imported(library)
        sides[f"added {name}"] = imported(module, f"{USED}\n{library}")
    for name, library in (("tooz", "import tooz.coordination"), ("nacos-sdk-python", "import v2.nacos")):
        sides[name] = imported(library)
    found = alternate(sides, max(rounds, 9))
    shown = {name: figures(played, cpu=False) for name, played in found.items()}
    whole = {name: shown[name] for name in ("ours", "opened", "raw", "tooz", "nacos-sdk-python")}
    cells = [of_limit("the package against kazoo.client", ratio(found, "ours", "raw"), "times", 1.0, sides=whole)]
    for name in RAW:
        pair = {"ours": shown[f"added {name}"], "raw": shown[f"raw {name}"]}
        part = ratio(found, f"added {name}", f"raw {name}")
        cells.append(of_limit(f"what {name} adds to its library", part, "times", 0.1, sides=pair))
    return cells
