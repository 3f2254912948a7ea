"""grpc, imported so that a fork harms nobody: for the backends that speak it."""

from __future__ import annotations

import importlib
import os
import sys

_VARIABLE = "GRPC_ENABLE_FORK_SUPPORT"


def load_grpc() -> None:
    """Import grpc without its fork handlers, unless it is imported already or the environment wants them.

    They are on by default and do not know of `grpc.aio`: with a connection of it, a child may crash right after any fork, whatever
    it does. Without them it only cannot use what it inherited, which it never does. grpc reads the variable when it is
    imported, and never again.
    """
    if "grpc" in sys.modules or _VARIABLE in os.environ:
        importlib.import_module("grpc")
        return
    os.environ[_VARIABLE] = "0"
    try:
        importlib.import_module("grpc")
    finally:
        del os.environ[_VARIABLE]
