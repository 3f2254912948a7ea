"""``python -m sofa_registry_adapters.cli``, the same as `sofa-registry`."""

import sys

from sofa_registry_adapters.cli import main

if __name__ == "__main__":
    sys.exit(main())
