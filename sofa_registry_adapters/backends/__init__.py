"""One package or module a product. Each has ``BACKEND``, which says what it is without importing its client library."""
