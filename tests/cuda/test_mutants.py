"""Every mistake of mutants.py, planted in a copy of the checkout, is seen by its check; without it, all checks pass."""

from __future__ import annotations

from tests.cuda.mutants import MUTANTS
from tests.mutation import as_tests

test_the_checks_pass_without_a_mistake, test_the_mistake_is_seen = as_tests(MUTANTS)
