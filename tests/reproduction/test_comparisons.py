"""reproduction/comparisons.py and printed_tables.py: what is counted, with which deviation, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reproduction.comparisons import Comparisons, compare, count, criterion
from reproduction.runs.printed_tables import cell, smallest_seen, tables, unrounded
from reproduction.statistics import welch
from reproduction.tasks import DIGITS
from tests.compare import assert_close


def comparisons() -> Comparisons:
    rows = np.random.default_rng(1).normal(0, 0.1, (4, 5))
    rows[1] = 0.0
    rows[2] *= 30  # a setting that scatters
    rows[3] += 50.0  # one in which one of the two failed
    return Comparisons(DIGITS, {"a - b": rows}, ["p", "q", "r", "s"], np.asarray([True, True, True, False]))


def test_settings_are_tested_with_their_own_deviation() -> None:
    single = comparisons().single["a - b"]
    assert [str(each) for each in single] == ["equivalent", "identical", "undecided", "different"]
    for each in (single[0], single[2], single[3]):
        assert_close(each.standard_error, stats.sem(each.differs.data["differences"]), ulp=4)
    assert single[3].beyond and not single[2].beyond


def test_only_what_counts_is_judged() -> None:
    one = comparisons()
    assert one.verdict(["a - b"]) == "holds" and one.apart(["a - b"])
    mean = np.mean([each.differs.mean for each in one.single["a - b"][:3]])
    assert_close(one.overall["a - b"].differs.mean, mean, ulp=8)
    assert count(one.single["a - b"]) == "1 identical, 1 equivalent, 1 different, 1 by more than the margin"
    assert "Holm over 4" in criterion([one])
    tests = one.tests()
    assert [test.family for test in tests] == [1] * 2 + [4] * 8
    assert [test.kind for test in tests[2:]] == ["paired t"] * 4 + ["paired equivalence"] * 4


def test_differences_with_both_verdicts() -> None:
    (found,) = compare({"x": [0.3, 0.31, 0.32, 0.29, 0.3]}, 1.0)
    assert str(found) == "equivalent and different" and not found.beyond


def test_printed_cells() -> None:
    found = cell("78.50 (78.48 ± 0.23)")
    assert (found.median, found.mean, found.deviation, found.step) == (78.5, 78.48, 0.23, 0.01)
    assert cell("22.4 ± 0.0").median is None
    with pytest.raises(ValueError, match="not a printed cell"):
        cell("22.4")


def test_tables_drawn_again_would_be_printed_the_same() -> None:
    """Means and deviations far apart are told apart in every drawing, those of equal means in few."""
    differ = unrounded(table="adamod-3", draws=50, seed=0)["differ"]
    pairs = tables()["adamod-3"].pairs
    assert differ[:, pairs.index(("ResNet-34", "SGDM", "AdaMod"))].all()
    assert not differ[:, pairs.index(("ResNet-34", "Adam", "AdaMod"))].any()


def test_a_deviation_printed_as_0_is_the_largest_that_is() -> None:
    tests = {test.name: test for test in tables()["untuned-2"].welch()}
    test = tests["Ma & Yarats, Table 2, 0.0005 / 0.998: exponential - linear"]
    assert test.data["deviations"] == [0.05, 0.05]


def test_what_is_the_smallest_difference_seen() -> None:
    gap = smallest_seen(5, 0.1, 27)
    assert_close(welch("x", [0.0, gap], [0.1, 0.1], [5, 5]).p, 0.05 / 27, atol=1e-9)
