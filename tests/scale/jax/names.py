"""The names of all cases, found without JAX, which their files import."""

from __future__ import annotations

from pathlib import Path

from tests.scale.names import cases_in

CASES = cases_in(Path(__file__).parent)
