"""How fast is a step, as a share of what the machine's memory allows? ``python -m benchmarks``, or ``nox -s bench``."""
