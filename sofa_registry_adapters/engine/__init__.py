"""The one engine behind every backend: what this process wants published, and what it watches."""
