"""The runner of reproduction/: it needs what draws and shows bars, so `nox -s reproduce_quick` runs these."""
