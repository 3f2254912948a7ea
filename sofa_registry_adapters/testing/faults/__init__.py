"""Faults on purpose: a network that breaks, processes that die or hang, and waiting with a deadline.

`NetProxy` stands between a client and a server, `python_process` runs a child that can be killed or frozen,
`eventually` waits for a condition. None of it needs root, and none of it outlives the test run.
"""

from sofa_registry_adapters.testing.faults.authority import Authority
from sofa_registry_adapters.testing.faults.ports import free_port
from sofa_registry_adapters.testing.faults.processes import ChildProcess, PythonProcess, python_process
from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.waiting import eventually, eventually_async

__all__ = [
    "Authority",
    "ChildProcess",
    "NetProxy",
    "PythonProcess",
    "eventually",
    "eventually_async",
    "free_port",
    "python_process",
]
