"""The test kit: what a backend has to pass, the real servers to pass it on, and the faults to pass it under.

`services` finds or starts servers, `faults` breaks networks and processes, and `plugin` offers both to
pytest as fixtures. Nothing here is imported by the rest of the library.
"""
