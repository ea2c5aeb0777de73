"""reproduction/equivalence.py, against SciPy's own tests and textbook numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reproduction.equivalence import Pairs, compare, compare_grid, holm, pooled_deviation, verdict
from tests.compare import assert_close


@pytest.mark.parametrize("mean", [-1.5, 0.0, 0.3])
def test_two_one_sided_tests_are_scipys(mean: float) -> None:
    x = np.random.default_rng(0).normal(mean, 0.7, 6)
    test = compare(x, 0.9)
    below = stats.ttest_1samp(x, -0.9, alternative="greater").pvalue
    above = stats.ttest_1samp(x, 0.9, alternative="less").pvalue
    # the statistics and SciPy's distribution, each to some 1e-15
    assert_close(test.p_equivalent, max(below, above), ulp=64)
    assert_close(test.p_different, stats.ttest_1samp(x, 0.0).pvalue, ulp=64)
    assert_close(test.standard_error, stats.sem(x), ulp=4)


def test_differences_that_do_not_vary() -> None:
    assert compare(np.zeros(3), 0.1) == Pairs(0.0, 0.0, 1.0, 0.0)
    assert compare(np.full(3, 0.5), 0.1) == Pairs(0.5, 0.0, 0.0, 1.0)


def test_holms_correction() -> None:
    """The example of Holm's method: 0.01, 0.04, 0.03, 0.005 of four."""
    assert_close(holm(np.asarray([0.01, 0.04, 0.03, 0.005])), np.asarray([0.03, 0.06, 0.06, 0.02]), ulp=1)
    assert_close(holm(np.asarray([0.6, 0.9])), np.asarray([1.0, 1.0]))


def test_a_pooled_deviation_is_that_within_the_groups() -> None:
    groups = np.asarray([[1.0, 3.0], [10.0, 14.0]])  # variances 2 and 8
    deviation, freedom = pooled_deviation(groups)
    assert_close(deviation, 5**0.5, ulp=1)
    assert freedom == 2


def test_a_grid_counts_what_it_is_told_to() -> None:
    rows = np.random.default_rng(1).normal(0, 0.01, (3, 5))
    rows[2] += 5.0  # a setting in which one of the two failed
    grid = compare_grid([rows], 0.1, np.asarray([True, True, False]))
    assert_close(grid.overall[0].mean, rows[:2].mean(axis=0).mean(), ulp=4)
    assert [verdict(test) for test in grid.single[0]] == ["equivalent", "equivalent", "different"]
    assert grid.single[0][0].standard_error == grid.single[0][1].standard_error
    assert_close(grid.single[0][2].standard_error, stats.sem(rows[2]), ulp=4)
    assert verdict(Pairs(0.0, 1.0, 0.5, 0.5)) == "undecided"


def test_a_grid_of_many_is_corrected_for_all_of_them() -> None:
    rows = np.random.default_rng(2).normal(0.05, 0.1, (4, 5))
    alone = compare_grid([rows], 0.2, np.ones(4, bool)).single[0]
    twice = compare_grid([rows, rows], 0.2, np.ones(4, bool)).single
    assert len(twice) == 2 and twice[0] == twice[1]
    assert all(a.p_equivalent <= b.p_equivalent for a, b in zip(alone, twice[0], strict=True))
    assert any(a.p_equivalent < b.p_equivalent for a, b in zip(alone, twice[0], strict=True))
