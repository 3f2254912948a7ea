"""The page that shows the mutants."""

from __future__ import annotations

from planted.table import CONFIG, CONFIG_REDIS, MUTANTS, REDIS, REGISTRY, STORE


def page() -> str:
    """The table of mutants for the reference."""
    rows = (
        f"| {one.name[:1].upper()}{one.name[1:]} | {one.defect} | {one.seen_in} | {'<br>'.join(map(_shown, one.tests))} |\n"
        for one in MUTANTS.values()
    )
    return (
        "# Mutants\n\n<!-- Written by tests/mutants/mutants.py: change it, then run it. -->\n\n"
        "Does the conformance kit find what it is there to find? Each line is a defect that a library of this field has, "
        "or had. It is planted into this library, and the named tests of the kit have to fail within seconds, on "
        "`memory://` unless another backend is named. Without a defect the same tests pass. `pytest tests/mutants` shows it.\n\n"
        f"{len(MUTANTS)} mutants.\n\n| mutant | what is wrong | seen in | caught by |\n| --- | --- | --- | --- |\n{''.join(rows)}"
    )


def _shown(test: str) -> str:
    contracts = {
        STORE: "store",
        CONFIG: "config center",
        CONFIG_REDIS: "config center on redis",
        REDIS: "registry on redis",
        REGISTRY: "registry",
    }
    contract = next(name for prefix, name in contracts.items() if test.startswith(prefix))
    return f"{contract}: `{test.rpartition('::')[2]}`"
