"""A long random run: providers, consumers and processes that are killed, on a registry that is hurt all the while.

``python -m sofa_registry_adapters.testing.soak --product redis --seconds 60 --seed 7``

A seed decides what happens: operations of applications and faults, in rounds. After each round nothing is broken any more, and
the invariants of `judging` have to hold: the registry's list equals what the applications want, every view equals that list, nothing
leaked. Other invariants are checked all the time, with every change that a listener is told and with every call. The log has each step,
so that a run, or a part of it that was cut out by hand, can be played again.
"""

from sofa_registry_adapters.testing.soak.plan import Plan, Shape
from sofa_registry_adapters.testing.soak.report import Report
from sofa_registry_adapters.testing.soak.run import Soak, new_namespace, shape_for

__all__ = ["Plan", "Report", "Shape", "Soak", "new_namespace", "shape_for"]
