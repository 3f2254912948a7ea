"""Layouts: pure functions between instances and records."""
