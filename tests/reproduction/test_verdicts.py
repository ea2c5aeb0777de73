"""reproduction/verdicts.py, digits_runs.py and smoothness.py: what follows from tests, and what is read off curves."""

from __future__ import annotations

import numpy as np

from reproduction.findings.smoothness import roughness
from reproduction.grids.digits_runs import epochs_to
from reproduction.statistics import corrected, difference, equivalence, sign
from reproduction.verdicts import ahead, alike, counted, everywhere, listed, worst

ABOVE, AROUND = [1.0, 1.1, 0.9, 1.0, 1.2], [0.1, -0.2, 0.15, -0.1, 0.05]


def test_ahead() -> None:
    assert ahead(difference("x", ABOVE)) == "holds"
    assert ahead(difference("x", [-x for x in ABOVE])) == "does not hold"
    assert ahead(difference("x", AROUND)) == "not shown"
    assert ahead(difference("x", AROUND), equivalence("x", AROUND, 1.0)) == "does not hold"
    assert ahead(difference("x", AROUND), equivalence("x", AROUND, 0.1)) == "not shown"


def test_signs_are_what_a_test_of_signs_judges() -> None:
    """Nine seeds a little above and one far below: the mean says the opposite."""
    found = sign("x", [0.1] * 9 + [-90.0])
    assert found.mean < 0
    assert ahead(found) == "holds"
    assert counted(found, "larger") == "larger in 9 of 10 seeds"


def test_alike() -> None:
    assert alike(equivalence("x", AROUND, 1.0)) == "holds"
    assert alike(equivalence("x", AROUND, 0.1)) == "not shown"
    assert alike(equivalence("x", ABOVE, 0.5)) == "does not hold"


def test_several_places() -> None:
    assert worst({"a": "holds", "b": "not shown"}) == "not shown"
    assert worst({"a": "does not hold", "b": "not shown"}) == "does not hold"
    assert everywhere({"a": "holds", "b": "not shown"}, "rates") == ("holds in part", "at 1 of 2 rates: a")
    assert everywhere({"a": "not shown", "b": "not shown"}, "rates") == ("not shown", "")
    assert everywhere({"a": "not shown", "b": "does not hold"}, "rates") == ("does not hold", "")


def test_tests_in_words() -> None:
    tests = corrected([sign("x", [1.0] * 10), sign("y", [1.0] * 5 + [-1.0] * 5)])
    assert listed(["at 1", "at 2"], tests) == "sign, n = 10, Holm over 2: at 1 p = 0.0039, at 2 p = 1"
    assert listed(["here"], [difference("z", [0.0, 0.0])]) == "here identical in each of 2"


def test_epochs_to_a_level_that_is_never_reached() -> None:
    curves = np.asarray([[0.5, 0.96, 0.94], [0.95, 1.0, 1.0], [0.1, 0.2, 0.3]])
    assert epochs_to(curves, 0.95).tolist() == [2, 1, 4]


def test_a_parabola_is_smooth() -> None:
    x = np.arange(10.0)
    smooth, rough = roughness(np.asarray([3 + x - x**2, np.where(x % 2, 1.0, -1.0)]))
    assert smooth < 1e-12
    assert rough > 3.9
