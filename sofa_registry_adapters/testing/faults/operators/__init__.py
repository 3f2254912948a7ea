"""What an operator does to a product's server behind the library's back, by the server's own protocol and without its client library.

`operator_of` finds the one for a product. A verb returns when the server has done it, and raises `OSError` where it
cannot be reached.
"""

from sofa_registry_adapters.testing.faults.operators.finding import operator_of
from sofa_registry_adapters.testing.faults.operators.operator import VERBS, Operator

__all__ = ["VERBS", "Operator", "operator_of"]
