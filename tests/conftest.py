"""Fixtures of all tests: the real servers of the kit that ships in the wheel."""

pytest_plugins = ["sofa_registry_adapters.testing.plugin"]
