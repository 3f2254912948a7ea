"""etcd for tests: the program on this machine, and a version that is built with Go.

The second one has to be built beforehand, a minute's work that needs the Go module proxy:
`python -m sofa_registry_adapters.testing.services.etcd`. Other programs are named by ``SOFA_TEST_ETCD_BINARY`` and
``SOFA_TEST_ETCD36_BINARY``.
"""

from sofa_registry_adapters.testing.services.etcd.program import CURRENT
from sofa_registry_adapters.testing.services.etcd.server import product

__all__ = ["CURRENT", "product"]
