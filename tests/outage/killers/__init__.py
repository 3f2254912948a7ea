"""What kills Python programs, done to processes that publish: see `docs/reference/killers.md`."""
