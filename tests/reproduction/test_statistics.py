"""reproduction/statistics.py, against SciPy's own tests and textbook numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reproduction.statistics import corrected, difference, equivalence, holm, plus_minus, sign, welch
from tests.compare import assert_close


@pytest.mark.parametrize("mean", [-1.5, 0.0, 0.3])
def test_tests_of_paired_differences_are_scipys(mean: float) -> None:
    x = np.random.default_rng(0).normal(mean, 0.7, 6)
    two_sided = difference("x", x)
    assert_close(two_sided.p, stats.ttest_1samp(x, 0.0).pvalue)
    assert_close(two_sided.mean, x.mean(), ulp=1)
    below = stats.ttest_1samp(x, -0.9, alternative="greater").pvalue
    above = stats.ttest_1samp(x, 0.9, alternative="less").pvalue
    assert_close(equivalence("x", x, 0.9).p, max(below, above))


def test_paired_t_by_hand() -> None:
    """1, 2, 3: a mean of 2, a standard error of 1/sqrt(3), two degrees of freedom, whose distribution is algebraic."""
    t = 2 * 3**0.5
    p = 1 - t / (t**2 + 2) ** 0.5  # two-sided
    assert_close(difference("x", [1, 2, 3]).p, p, ulp=16)
    assert_close(equivalence("x", [1, 2, 3], 4.0).p, p / 2, ulp=32)
    assert_close(equivalence("x", [1, 2, 3], 2.0).p, 0.5)


def test_differences_that_do_not_vary() -> None:
    same, other = np.zeros(3), np.full(3, 0.5)
    assert difference("x", same).p == 1.0 and equivalence("x", same, 0.1).p == 0.0
    assert difference("x", other).p == 0.0 and equivalence("x", other, 0.1).p == 1.0
    assert str(difference("x", same)) == "identical in each of 3"


def test_signs() -> None:
    """Nine of ten: 2 (1 + 10)/1024. A difference of 0 is no sign."""
    assert_close(sign("x", [*range(1, 10), -1, 0]).p, 22 / 1024, ulp=4)
    assert sign("x", [0, 0]).p == 1.0


def test_welch_by_hand() -> None:
    """Equal deviations and sizes: Student's t with n + n - 2 degrees of freedom."""
    a, b = [1.0, 2.0, 3.0], [3.0, 4.0, 5.0]
    test = welch("x", [2.0, 4.0], [1.0, 1.0], [3, 3])
    assert_close(test.p, stats.ttest_ind(a, b).pvalue, ulp=8)
    assert test.mean == -2.0
    other = welch("x", [20.8, 22.4], [0.1, 0.3], [5, 8])
    error = (0.1**2 / 5 + 0.3**2 / 8) ** 0.5
    freedom = error**4 / ((0.1**2 / 5) ** 2 / 4 + (0.3**2 / 8) ** 2 / 7)
    assert_close(other.p, 2 * stats.t.sf(1.6 / error, freedom), ulp=512)  # in the tail, of a power of t


def test_holms_correction() -> None:
    """The example of Holm's method: 0.01, 0.04, 0.03, 0.005 of four."""
    assert_close(holm(np.asarray([0.01, 0.04, 0.03, 0.005])), np.asarray([0.03, 0.06, 0.06, 0.02]), ulp=1)
    assert_close(holm(np.asarray([0.6, 0.9])), np.asarray([1.0, 1.0]))


def test_a_family_is_corrected_together() -> None:
    rows = np.random.default_rng(2).normal(0.4, 0.3, (4, 6))
    alone = [difference(str(i), row) for i, row in enumerate(rows)]
    family = corrected(alone)
    assert [t.p for t in family] == [t.p for t in alone]
    assert_close(np.asarray([t.corrected for t in family]), holm([t.p for t in alone]))
    assert {t.family for t in family} == {4} and {t.family for t in alone} == {1}
    assert all(t.rejects == (t.corrected < 0.05) for t in family)
    assert ", Holm over 4: p = " in str(family[0])


def test_what_a_page_says() -> None:
    assert str(difference("x", [1, 2, 3])) == "paired t, n = 3, own deviation: p = 0.074"
    assert plus_minus([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
